"""A few hundred damaged files in seconds; ``fuzz_nm.py`` reads tens of thousands."""

import numpy as np
import pytest
from fuzz_nm import outcome_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nm_builders import marked_gated_volume, marked_volume, short_axis, transaxial, write
from nm_mutations import mutated, origins

from mpi_unet.dicom.nm import read_nm
from mpi_unet.errors import DicomError

FILES = 400


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    found = []
    for origin in origins(folder, None):
        path = folder / "whole.dcm"
        path.write_bytes(origin.content)
        found.append((origin, read_nm(path)))
    return found


@pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")  # while the damage is made; reading must not warn
def test_damaged_files_are_read_or_refused_by_name(whole, tmp_path):
    path = tmp_path / "damaged.dcm"
    outcomes = []
    for number in range(FILES):
        origin, image = whole[number % len(whole)]
        _, content = mutated(origin, np.random.default_rng([99, number]))
        path.write_bytes(content)
        outcomes.append(outcome_of(path, image))  # raises whatever is no DicomError
    assert sum(outcome.startswith("typed error") for outcome in outcomes) > FILES / 3
    assert sum(outcome == "read: the same" for outcome in outcomes) > FILES / 20


@pytest.fixture(scope="module")
def header(tmp_path_factory):
    """A small file and where its pixels begin."""
    path = write(marked_volume(transaxial()), tmp_path_factory.mktemp("header") / "whole.dcm")
    content = path.read_bytes()
    return path, content, content.rindex(b"\xe0\x7f\x10\x00OW"), read_nm(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_byte_of_a_header_makes_another_volume_of_the_same_pixels(header, tmp_path, data):
    _, content, pixels, image = header
    place = data.draw(st.integers(0, pixels + 11))
    value = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.dcm"
    path.write_bytes(content[:place] + bytes([value]) + content[place + 1 :])
    try:
        read = read_nm(path)
    except DicomError:
        return
    assert read.kind is image.kind
    assert read.values.shape == image.values.shape
    np.testing.assert_array_equal(read.values, image.values)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_vectors_place_each_frame_where_they_say_or_are_refused(data):
    dataset = marked_gated_volume(short_axis())
    gates = data.draw(st.lists(st.integers(0, 5), min_size=80, max_size=80) | st.permutations([1, 2, 3, 4] * 20))
    slices = data.draw(st.permutations([number for number in range(1, 21) for _ in range(4)]) | st.just([1] * 80))
    dataset.TimeSlotVector, dataset.SliceVector = list(gates), list(slices)
    is_full = sorted(zip(gates, slices, strict=True)) == [(g, s) for g in range(1, 5) for s in range(1, 21)]
    try:
        read = read_nm(dataset)
    except DicomError:
        assert not is_full
        return
    assert is_full
    frames = np.frombuffer(dataset.PixelData, "<u2").reshape(80, 40, 36)
    for frame, gate, number in zip(frames, gates, slices, strict=True):
        np.testing.assert_array_equal(read.stored[gate - 1, number - 1], frame)
