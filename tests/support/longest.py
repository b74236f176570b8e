"""The order in which the files of tests begin."""

# Begun first, the longest first: begun last, one of them would keep one core busy and the other
# idle. xdist by itself begins with the files of most tests, which here are the quickest.
LONG = [
    "test_gap_regression.py", "distributed/test_distributed.py", "batchnorm/test_audit.py",
    "fast/test_fast.py", "runs/test_resume.py", "gap/test_tools.py", "test_train.py",
    "runs/test_kills.py", "test_alexnet.py", "serving/test_export.py", "cli/test_bad_input.py",
]  # fmt: skip
