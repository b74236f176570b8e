"""The pictures for TensorBoard, looked at pixel by pixel."""

import io

import numpy as np
from PIL import Image
from support.small_set import TINY

from alexnet_tf1.reporting import confusion, event_images


def pixels(drawn):
    with Image.open(io.BytesIO(drawn.png)) as image:
        assert image.size == (drawn.width, drawn.height)
        return np.asarray(image)


def test_a_cell_of_the_matrix_is_as_dark_as_its_share_of_the_row():
    counts = np.array([[3, 1], [0, 0]])
    shown = pixels(event_images.confusion_matrix(counts, ["cat", "dog"]))
    corner, width, height = event_images.MARGIN, event_images.WIDTH, event_images.HEIGHT
    for row, column, light in ((0, 0, 64), (0, 1, 191), (1, 0, 255), (1, 1, 255)):
        pixel = shown[corner + row * height + 1, corner + column * width + 1]
        assert pixel.tolist() == [light, light, 255]


def test_the_names_stand_beside_the_rows_and_above_the_columns():
    named = pixels(event_images.confusion_matrix(np.eye(3, dtype=int), ["a", "", "c"]))
    corner = event_images.MARGIN
    rows = [(part < 128).any() for part in np.split(named[corner:, :corner], 3)]
    across = named[: corner - 20, corner:], named[corner - 20 : corner, corner:]
    columns = [(part < 128).any() for part in np.split(across[1], 3, axis=1)]
    assert rows == columns == [True, False, True]
    assert not (across[0] < 128).any()  # the names begin at the matrix


def test_the_worst_images_are_shown_in_their_order():
    data = TINY()
    logits = np.eye(10, dtype=np.float32)[(data.test.labels + 1) % 10] * 5
    wrong = confusion.worst(data.test.labels, logits, 40)
    shown = pixels(event_images.worst(wrong, data))
    for place in (0, 9, 19):
        image = data.test.images[wrong[place]["index"]].reshape(3, 32, 32).transpose(1, 2, 0)
        row, column = divmod(place, confusion.COLUMNS)
        top = row * (event_images.SIDE + event_images.BELOW)
        left = column * (event_images.SIDE + event_images.BESIDE) + 4
        part = shown[top : top + event_images.SIDE, left : left + event_images.SIDE]
        np.testing.assert_array_equal(part[1::3, 1::3], image)
        below = shown[top + event_images.SIDE :][: event_images.BELOW, left : left + 60]
        assert (below < 128).any()


def test_a_model_without_mistakes_has_an_empty_page():
    assert (pixels(event_images.worst([], TINY())) == 255).all()
