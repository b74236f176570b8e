"""Sole owner of the package's metadata; pyproject.toml holds tool settings only."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "alexnet_tf1/__init__.py").read_text())

TEST = [
    "pytest>=7.4",  # runs the tests
    "pytest-xdist>=3.8",  # runs them on every core, in the order given
    "tf_keras>=2.16",  # the real tf.compat.v1.layers, the oracle for our ops
    "tf_slim>=1.1",  # tf.contrib.slim as it lives on: other people's models to repair
    "hypothesis>=6.80",  # makes up files that no reader may trip over
    "tensorboard>=2.16",  # reads the event files back, as those who look at them do
]

LINT = [
    "ruff",  # lint and format
    "mypy",  # types
    "import-linter",  # who may import whom, as pyproject.toml says
    "types-requests",  # without which mypy knows nothing of requests
]

setup(
    name="alexnet-tf1",
    version=VERSION.group(1),
    description="A faithful TF1-graph AlexNet for CIFAR-10 on today's TensorFlow, and tools that "
    "prove a graph's moving averages are updated and read",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    keywords="tensorflow batch-normalization alexnet cifar10 checkpoint audit",
    python_requires=">=3.10",
    packages=find_packages(include=["alexnet_tf1", "alexnet_tf1.*"]),
    package_data={"alexnet_tf1": ["py.typed"]},
    install_requires=[
        "tensorflow>=2.16,<3",  # the graph, the session, the checkpoints
        "numpy>=1.26",  # the data, and what a session feeds and fetches
        "pooch>=1.8",  # downloads the data set: resumable names, hash check, time-outs
        "requests>=2.31",  # whose errors a failed download gives; already there with pooch
        "filelock>=3.30",  # one writer a run folder; 3.30 can refuse disks without locks
        "tqdm>=4.64",  # pooch's progress bar
        "rich>=14.3",  # the training bar; a hidden one prints an empty line before that
        "matplotlib>=3.8",  # curves.png and the other pictures
        "pillow>=10.1",  # reads the images given to predict; already there with matplotlib
    ],
    extras_require={
        "gpu": ["tensorflow[and-cuda]>=2.16,<3"],  # TensorFlow with its CUDA libraries
        "test": TEST,
        "lint": LINT,
        "dev": [
            *TEST,
            *LINT,
            "pytest-cov>=7",  # make coverage
            "coverage>=7.10",  # the first that follows forks and new processes by itself
            "pre-commit",  # runs the same lint and types before a commit
            "build",  # wheel and sdist, in make dist
            "twine",  # checks what build made, in make dist
        ],
    },
    entry_points={
        "console_scripts": ["alexnet-tf1 = alexnet_tf1.cli.main:main"],
        "pytest11": ["alexnet_tf1 = alexnet_tf1.pytest_plugin"],  # the fixture batch_norm_audit
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Framework :: Pytest",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
