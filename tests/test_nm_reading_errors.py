"""Nuclear Medicine files that contradict themselves, claim the impossible or are damaged: what is said about them."""

import resource
import struct
import time
import tracemalloc

import numpy as np
import pytest
from nm_builders import (
    changed,
    last_slice_first,
    marked_gated_volume,
    marked_volume,
    nested,
    projections,
    short_axis,
    slice_major,
    without,
    write,
)
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import HTJ2KLossless

from mpi_unet.dicom.nm import decoders, read_header, read_nm
from mpi_unet.dicom.nm import file as nm_file
from mpi_unet.dicom.nm.decoders import CodecError, FrameSize, decode_frames
from mpi_unet.dicom.nm_writing import write_dicom
from mpi_unet.errors import DicomError


def volume(**values) -> Dataset:
    return changed(marked_volume(short_axis()), **values)


def gated(**values) -> Dataset:
    return changed(marked_gated_volume(short_axis()), **values)


def views(**values) -> Dataset:
    return changed(projections(), **values)


def with_detector(**values) -> Dataset:
    dataset = volume()
    dataset.DetectorInformationSequence = [changed(dataset.DetectorInformationSequence[0], **values)]
    return dataset


def with_rotation(**values) -> Dataset:
    dataset = views()
    dataset.RotationInformationSequence = [changed(dataset.RotationInformationSequence[0], **values)]
    return dataset


SLICES = list(range(1, 21))


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        # what it is
        (volume(SOPClassUID="1.2.840.10008.5.1.4.1.1.2"), r"SOPClassUID \(0008,0016\) is .*CT Image.*expected Nuclear"),
        (without(volume(Modality="CT"), "SOPClassUID"), r"SOPClassUID \(0008,0016\) is absent or empty; expected"),
        (volume(ImageType=["DERIVED", "SECONDARY"]), r"ImageType \(0008,0008\) has 2 values; expected one of STATIC"),
        (volume(ImageType=["A", "B", "AXIAL"]), "has 'AXIAL' as its value 3; expected one of .*RECON TOMO"),
        (volume(ImageType=["A", "B", "TOMO"]), r"AngularViewVector \(0054,0090\) is absent or empty; expected one"),
        (gated(ImageType=["A", "B", "RECON TOMO"]), "names TimeSlotVector, which has no meaning for RECON TOMO"),
        (volume(ImageType=["A", "B", "STATIC"]), "names SliceVector, which has no meaning for STATIC"),
        (
            without(volume(ImageType=["A", "B", "DYNAMIC"]), "FrameIncrementPointer"),
            "frames differ in SliceVector, which has no meaning for DYNAMIC",
        ),
        (
            volume(ImageType=["A", "B", "STATIC"], FrameIncrementPointer=0x00540010),
            "frames differ in SliceVector, which has no meaning for STATIC",
        ),
        (views(ImageType=["A", "B", "RECON TOMO"]), r"SliceVector \(0054,0080\) is absent or empty; expected one"),
        # frames
        (volume(NumberOfFrames=0), r"NumberOfFrames \(0028,0008\) is 0; expected 1 to 65536"),
        (volume(NumberOfFrames=19), r"SliceVector \(0054,0080\) has 20 numbers; expected one for each of 19 frames"),
        (volume(NumberOfSlices=45), r"SliceVector \(0054,0080\) runs to 20; expected 45, as NumberOfSlices"),
        (volume(NumberOfSlices=0), r"NumberOfSlices \(0054,0081\) is 0; expected at least 1"),
        (volume(SliceVector=[*SLICES[:-1], 19]), "runs to 19; expected 20"),
        (volume(SliceVector=[1, 1, *SLICES[2:]]), "do not fill their grid .20 of SliceVector. exactly once with 20"),
        (volume(SliceVector=list(range(20))), "runs from 0 to 19; expected numbers from 1"),
        (without(volume(), "SliceVector", "NumberOfSlices"), "is absent or empty; expected one number for each of 20"),
        (gated(TimeSlotVector=[1] * 80), r"TimeSlotVector \(0054,0070\) runs to 1; expected 4, as NumberOfTimeSlots"),
        (gated(SliceVector=[1] * 80, NumberOfSlices=1), r"do not fill their grid \(4 of TimeSlotVector x 1 of SliceV"),
        (without(gated(), "TimeSlotVector"), r"TimeSlotVector \(0054,0070\) is absent or empty"),
        (
            volume(FrameIncrementPointer=0x00181063),
            r"FrameIncrementPointer \(0028,0009\) names \(0018,1063\); expected",
        ),
        (views(AngularViewVector=[1] * 12), "view 1 of detector 1 stands there twice in gate 1"),
        (views(AngularViewVector=[*range(1, 12), 13]), "detector 1 has 12 views that run to 13"),
        (with_rotation(NumberOfFramesInRotation=60), "is 60, but Angular View Vector has 12 views of a detector"),
        (with_rotation(AngularStep="1e9"), r"AngularStep \(0018,1144\) in RotationInformationSequence\[0\] is 1e\+09"),
        # pixels
        (volume(Rows=39), r"PixelData \(7FE0,0010\) holds 57600 bytes; expected 56160 for 20 frames of 39 x 36"),
        (volume(Rows=60_000, Columns=60_000), r"Rows \(0028,0010\) is 60000; expected 1 to 8192"),
        (volume(Rows=8000, Columns=8000), r"are 8000 x 8000 x 20; expected at most 134217728 pixels"),
        (volume(Columns=0), r"Columns \(0028,0011\) is 0; expected 1 to 8192"),
        (volume(BitsAllocated=12), r"BitsAllocated \(0028,0100\) is 12; expected 8, 16 or 32"),
        (volume(BitsStored=17), r"BitsStored \(0028,0101\) is 17; expected 1 to 16"),
        (volume(BitsStored=8, HighBit=7), "is 8, but pixels run from .* to 900; expected numbers from 0 to 255"),
        (volume(HighBit=11), r"HighBit \(0028,0102\) is 11; expected 15"),
        (volume(PixelRepresentation=2), r"PixelRepresentation \(0028,0103\) is 2; expected 0"),
        (volume(SamplesPerPixel=3), r"SamplesPerPixel \(0028,0002\) is 3; expected 1: counts, not colors"),
        (without(volume(), "PixelData"), r"PixelData \(7FE0,0010\) is absent or empty; expected 20 frames"),
        (without(volume(), "Rows"), r"Rows \(0028,0010\) is absent; expected 1 to 8192"),
        (
            volume(RescaleIntercept=450),
            r"RescaleIntercept \(0028,1052\) stands there without .*expected both",
        ),
        (volume(RescaleSlope=0, RescaleIntercept=0), r"RescaleSlope \(0028,1053\) is 0 .* expected a factor"),
        # geometry
        (
            volume(SpacingBetweenSlices=0),
            r"SpacingBetweenSlices \(0018,0088\) is 0 mm; expected lengths from 0.01 to",
        ),
        (volume(SpacingBetweenSlices="-5e8"), r"is -5e\+08 mm; expected lengths"),
        (volume(PixelSpacing=[4, 0]), r"PixelSpacing \(0028,0030\) is 4 x 0 mm; expected lengths"),
        (volume(PixelSpacing=[4, -4]), "is 4 x -4 mm; expected lengths"),
        (volume(PixelSpacing=[4, 4, 4]), r"PixelSpacing \(0028,0030\) holds 3 values; expected 2"),
        (
            with_detector(ImagePositionPatient=[1, 2]),
            r"ImagePositionPatient .* in .*\[0\] holds 2 values; expected 3",
        ),
        (with_detector(ImagePositionPatient=[0, 0, 1e7]), r"is \(0, 0, 1e\+07\); expected places within 10000 mm"),
        (with_detector(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "off by 1; expected two orthogonal vectors"),
        (with_detector(ImageOrientationPatient=[2, 0, 0, 0, 1, 0]), "off by 1; expected two orthogonal vectors"),
    ],
)
def test_what_cannot_be_is_named_with_tag_value_and_expectation(dataset, message):
    with pytest.raises(DicomError, match=message):
        read_nm(dataset)


@pytest.mark.parametrize("name", ["SpacingBetweenSlices", "RescaleSlope"])
@pytest.mark.parametrize("text", ["NaN", "inf", "1e400", "4,5", "abc"])
def test_numbers_that_are_none_are_refused(name, text, tmp_path):
    dataset = volume(RescaleSlope="1", RescaleIntercept="0")
    setattr(dataset, name, "9.87654")
    path = write(dataset, tmp_path / "study.dcm")
    content = path.read_bytes()
    assert content.count(b"9.87654 ") == 1
    path.write_bytes(content.replace(b"9.87654 ", text.encode().ljust(8)))
    with pytest.raises(DicomError, match=rf"study.dcm: {name} .*expected"):
        read_nm(path)


def test_all_that_is_wrong_with_the_frames_is_said_at_once():
    dataset = gated(TimeSlotVector=[1] * 7, NumberOfSlices=99)
    with pytest.raises(DicomError, match=r"TimeSlotVector .*has 7 numbers.*SliceVector .*runs to 20; expected 99"):
        read_nm(dataset)


@pytest.mark.parametrize("arrange", [last_slice_first, slice_major])
def test_vectors_that_were_not_moved_with_their_frames_cannot_be_noticed_but_lost_frames_can(arrange):
    dataset = arrange(marked_gated_volume(short_axis()))
    frame = dataset.Rows * dataset.Columns * 2
    dataset.PixelData = dataset.PixelData[frame:]
    with pytest.raises(DicomError, match="holds 227520 bytes; expected 230400 for 80 frames"):
        read_nm(dataset)


# --- Files ------------------------------------------------------------------------------------------------------------


def test_a_file_that_ends_early_is_refused_wherever_it_ends(tmp_path):
    content = write(marked_volume(short_axis()), tmp_path / "whole.dcm").read_bytes()
    path = tmp_path / "cut.dcm"
    for length in [0, 1, 100, 131, 132, 140, 200, *range(400, len(content) - 1, 1999), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(DicomError, match=r"cut.dcm: .*expected"):
            read_nm(path)


@pytest.mark.parametrize("syntax", ["explicit", "big-endian", "deflated"])
@pytest.mark.parametrize("extra", [1, 2, 100])
def test_bytes_that_got_in_between_are_noticed(syntax, extra, tmp_path):
    path = write(marked_volume(short_axis()), tmp_path / "study.dcm", "explicit" if syntax == "deflated" else syntax)
    content = path.read_bytes()
    path.write_bytes(content[:-2000] + bytes(extra) + content[-2000:])
    with pytest.raises(DicomError, match=r"PixelData \(7FE0,0010\) is followed by bytes that are no data element"):
        read_nm(path)


def test_padding_by_the_standard_is_no_harm(tmp_path):
    path = write(marked_volume(short_axis()), tmp_path / "study.dcm")
    padding = struct.pack("<HH2sHL", 0xFFFC, 0xFFFC, b"OB", 0, 100) + bytes(100)
    path.write_bytes(path.read_bytes() + padding)
    assert read_nm(path).warnings == ()


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big-endian"])
@pytest.mark.parametrize("block", [512, 65_536])
def test_zeros_up_to_the_end_of_a_block_are_padding(syntax, block, tmp_path):
    path = write(marked_volume(short_axis()), tmp_path / "study.dcm", syntax)
    whole, content = read_nm(path), path.read_bytes()
    padding = -len(content) % block
    path.write_bytes(content + bytes(padding))
    padded = read_nm(path)
    np.testing.assert_array_equal(padded.values, whole.values)
    said = f"PixelData (7FE0,0010) is followed by {padding} zero bytes, which were taken for padding"
    assert padded.warnings == (*whole.warnings, said)


@pytest.mark.parametrize("tail", [b"\1", bytes(1), bytes(1 << 17)])
def test_what_is_no_padding_is_refused(tail, tmp_path):
    path = write(marked_volume(short_axis()), tmp_path / "study.dcm")
    content = path.read_bytes()
    blocks = bytes(-(len(content) + len(tail)) % 512) if len(tail) > 1 or any(tail) else b""
    path.write_bytes(content + blocks + tail)
    with pytest.raises(DicomError, match=r"followed by bytes that are no data element"):
        read_nm(path)


def test_elements_out_of_order_are_remarked(tmp_path):
    path = write(marked_volume(short_axis()), tmp_path / "study.dcm")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\x10\x00\x30\x00DA", b"\x11\x30\x30\x00DA", 1))
    assert "do not ascend after (3011,0030)" in read_nm(path).warnings[-1]


@pytest.mark.parametrize("name", ["notes.txt", "picture.jpg", "empty", "zeros"])
def test_what_is_no_dicom_file_is_said_to_be_none(name, tmp_path):
    content = {"notes.txt": b"hello" * 100, "picture.jpg": b"\xff\xd8\xff\xe0" + bytes(500), "empty": b""}
    (tmp_path / name).write_bytes(content.get(name, bytes(5000)))
    for read in (read_nm, read_header):
        with pytest.raises(DicomError, match=f"{name}: does not begin like a DICOM file; .*leave the file out"):
            read(tmp_path / name)


def test_a_file_that_is_not_there_is_missing(tmp_path):
    with pytest.raises(DicomError, match=r"gone.dcm: cannot be opened \(No such file or directory\)"):
        read_nm(tmp_path / "gone.dcm")
    with pytest.raises(DicomError, match=r"is no file; expected a DICOM file|cannot be opened"):
        read_nm(tmp_path)


def test_errors_name_the_file_but_not_the_folders_above(tmp_path):
    folder = tmp_path / "DOE_JOHN"
    folder.mkdir()
    write_dicom(volume(Rows=39), folder / "study.dcm")
    with pytest.raises(DicomError, match=r"^study.dcm: ") as caught:
        read_nm(folder / "study.dcm")
    assert "DOE" not in str(caught.value)


def test_a_deflated_file_cannot_grow_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr("mpi_unet.dicom.nm.file.MAX_INFLATED_BYTES", 1 << 20)
    dataset = volume(PixelData=bytes(4 << 20))
    path = write(dataset, tmp_path / "bomb.dcm", "deflated")
    assert path.stat().st_size < 20_000
    with pytest.raises(DicomError, match=r"TransferSyntaxUID \(0002,0010\) says deflated, and .* grows beyond 1 MiB"):
        read_nm(path)


def test_a_file_beyond_the_limit_is_not_opened(tmp_path, monkeypatch):
    path = write(marked_volume(short_axis()), tmp_path / "large.dcm")
    monkeypatch.setattr("mpi_unet.dicom.nm.file.MAX_FILE_BYTES", 10_000)
    with pytest.raises(DicomError, match=r"large.dcm: is 0 MiB; expected at most"):
        read_nm(path)


def test_a_header_without_end_is_given_up(tmp_path, monkeypatch):
    asked = []
    read = nm_file.Bounded.read

    def counted(self, size=-1):
        content = read(self, size)
        asked.append(len(content))
        return content

    monkeypatch.setattr(nm_file.Bounded, "read", counted)
    monkeypatch.setattr(nm_file, "MAX_READS", 5_000)
    path = tmp_path / "hole.dcm"
    with path.open("wb") as file:
        file.write(bytes(128) + b"DICM")
        file.truncate(5 << 30)  # a hole, not data
    with pytest.raises(DicomError, match=r"hole.dcm: has too many data elements to be an image \(more than 5000 reads"):
        read_header(path)
    assert len(asked) <= 5_000
    large = struct.pack("<HH2sHL", 0x0009, 0x1001, b"OB", 0, 0xFFFFFF00)
    with path.open("wb") as file:
        file.write(bytes(128) + b"DICM" + struct.pack("<HH2sH4s", 8, 5, b"CS", 4, b"ABCD") + large)
        file.truncate(5 << 30)
    asked.clear()
    with pytest.raises(DicomError, match=r"hole.dcm: has more than 16 MiB before its pixels; expected a header"):
        read_header(path)
    assert sum(asked) < 10_000


def test_huge_dimensions_are_refused_before_anything_is_allocated(tmp_path):
    sides = [("explicit", 60_000), ("RLE", 60_000), ("JPEG 2000", 60_000), ("explicit", 8192), ("JPEG lossless", 8192)]
    for syntax, side in sides:
        path = write(marked_volume(short_axis()), tmp_path / "huge.dcm", syntax)
        content = path.read_bytes()
        for tag in (b"\x28\x00\x10\x00US\x02\x00", b"\x28\x00\x11\x00US\x02\x00"):
            place = content.index(tag) + 8
            content = content[:place] + struct.pack("<H", side) + content[place + 2 :]
        path.write_bytes(content)
        tracemalloc.start()
        start = time.perf_counter()
        with pytest.raises(DicomError, match=r"huge.dcm: Rows \(0028,0010\)"):
            read_nm(path)
        assert time.perf_counter() - start < 1
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
        tracemalloc.stop()


def test_sequences_that_hold_themselves_or_go_deep_do_no_harm(tmp_path):
    dataset = volume()
    item = dataset.DetectorInformationSequence[0]
    item.DetectorInformationSequence = dataset.DetectorInformationSequence
    assert read_nm(dataset).stack is not None
    for depth in (10, 40):
        deep = volume(AcquisitionContextSequence=nested(depth))
        path = write(deep, tmp_path / "deep.dcm")
        assert read_nm(path).values.shape == (1, 20, 40, 36)


def test_a_sequence_deeper_than_python_goes_is_an_error(tmp_path):
    path = write(marked_volume(short_axis()), tmp_path / "abyss.dcm")
    content = path.read_bytes()
    pixels = content.rindex(b"\xe0\x7f\x10\x00OW")
    level = b"\x54\x00\x22\x00SQ\x00\x00\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    detectors = content.index(b"\x54\x00\x22\x00SQ")
    path.write_bytes(content[:detectors] + level * 20_000 + content[pixels:])
    with pytest.raises(DicomError, match=r"abyss.dcm: .*expected"):
        read_nm(path)


# --- Compressed frames ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", ["RLE", "JPEG lossless", "JPEG lossless SV1", "JPEG-LS", "JPEG 2000"])
def test_a_compressed_frame_of_another_size_is_refused(syntax, tmp_path):
    dataset = volume()
    path = write(dataset, tmp_path / "study.dcm", syntax)
    content = path.read_bytes()
    place = content.index(b"\x28\x00\x10\x00US\x02\x00") + 8
    path.write_bytes(content[:place] + struct.pack("<H", 41) + content[place + 2 :])
    with pytest.raises(DicomError, match=r"PixelData \(7FE0,0010\) cannot be unpacked: frame 1 .*expected whole"):
        read_nm(path)


@pytest.mark.parametrize("syntax", ["RLE", "JPEG lossless", "JPEG-LS", "JPEG 2000"])
def test_a_missing_compressed_frame_is_noticed(syntax, tmp_path):
    path = write(marked_volume(short_axis()), tmp_path / "study.dcm", syntax)
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"\xfe\xff\x00\xe0")])
    with pytest.raises(DicomError, match=r"study.dcm: .*expected"):
        read_nm(path)


def test_a_transfer_syntax_without_a_decoder_is_named():
    dataset = volume()
    dataset.file_meta.TransferSyntaxUID = HTJ2KLossless
    with pytest.raises(DicomError, match=r"TransferSyntaxUID \(0002,0010\) is 'High-Through.*have the file tra"):
        read_nm(dataset)


def test_a_decoder_that_crashes_takes_nothing_along(tmp_path, monkeypatch):
    path = write(marked_volume(short_axis()), tmp_path / "study.dcm", "JPEG lossless")
    read_nm(path)
    crashing = decoders.WORKER.process
    crashing.kill()
    crashing.wait()
    monkeypatch.setattr(decoders.WORKER, "_running", lambda: crashing)
    with pytest.raises(DicomError, match="the decoder crashed on the stream, which must be damaged"):
        read_nm(path)
    monkeypatch.undo()
    assert read_nm(path).values.max() == 900  # the next file gets a new process


def test_a_decoder_that_hangs_is_stopped(tmp_path, monkeypatch):
    path = write(marked_volume(short_axis()), tmp_path / "study.dcm", "JPEG lossless")
    read_nm(path)
    monkeypatch.setattr(decoders, "DECODE_SECONDS", 0.0)
    with pytest.raises(DicomError, match="the decoder took more than 0 s on the stream"):
        read_nm(path)
    assert decoders.WORKER.process is None


SIZE = FrameSize(rows=4, columns=4, bits_allocated=16, bits_stored=16, is_signed=False)
RLE = "1.2.840.10008.1.2.5"


def rle(*segments: bytes) -> bytes:
    offsets = [64 + sum(map(len, segments[:number])) for number in range(len(segments))]
    return struct.pack("<16L", len(segments), *offsets, *[0] * (15 - len(segments))) + b"".join(segments)


def test_rle_by_hand():
    # 16 high bytes of 1 (a run), low bytes 0 to 15 (a copy)
    frame = rle(bytes([257 - 16, 1]), bytes([15, *range(16)]))
    np.testing.assert_array_equal(decode_frames([frame], RLE, SIZE)[0].ravel(), 256 + np.arange(16))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (b"short", "has 5 bytes, less than the header of RLE"),
        (rle(bytes([241, 1])), "has 1 RLE segments for pixels of 2 bytes"),
        (rle(bytes([241, 1]), bytes([250, 1])), "unpacks to 7 bytes a plane instead of 16"),
        (rle(bytes([241, 1]), bytes([130, 1])), "unpacks to 127 bytes a plane instead of 16"),
        (rle(bytes([241, 1]), bytes([241, 1, 7, 7, 7])), "has 3 bytes behind its last pixel"),
        (struct.pack("<16L", 2, 64, 64, *[0] * 13) + bytes(8), "segments that do not follow each other"),
        (struct.pack("<16L", 2, 64, 2**31, *[0] * 13) + bytes(8), "segments that do not follow each other"),
    ],
)
def test_rle_that_is_damaged(frame, message):
    with pytest.raises(CodecError, match=message):
        decode_frames([frame], RLE, SIZE)


@pytest.mark.parametrize("stream", [b"", b"\xff\xd8", b"\xff\xd8\xff\xda\x00\x02", b"\xff\xd8\x00", bytes(100)])
@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.90"])
def test_a_stream_without_a_header_reaches_no_decoder(stream, syntax):
    with pytest.raises(CodecError, match="frame 1 does not begin like a stream of its kind"):
        decode_frames([stream], syntax, SIZE)


def test_fragments_that_are_none(tmp_path):
    dataset = volume(PixelData=encapsulate([b"\xff\xd8"] * 20))
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.70"
    with pytest.raises(DicomError, match=r"PixelData \(7FE0,0010\) cannot be unpacked: frame 1"):
        read_nm(dataset)
    dataset.PixelData = b"no items at all"
    with pytest.raises(DicomError, match=r"PixelData \(7FE0,0010\) has no whole fragments"):
        read_nm(dataset)


# --- Speed ------------------------------------------------------------------------------------------------------------


def test_a_header_costs_no_more_for_a_large_file(tmp_path):
    small = write(marked_volume(short_axis()), tmp_path / "small.dcm")
    large = tmp_path / "large.dcm"
    content = small.read_bytes()
    place = content.rindex(b"\xe0\x7f\x10\x00OW") + 8
    with large.open("wb") as file:
        file.write(content[:place] + struct.pack("<L", 900 << 20))
        file.truncate(900 << 20)  # a hole, not data
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert read_header(large).num_slices == read_header(small).num_slices == 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # KiB


def test_text_that_is_a_sequence_is_empty_and_no_error_of_another_kind(tmp_path):
    dataset = volume()
    item = Dataset()
    item.PatientComments = "x" * 3
    del dataset.SeriesDescription
    dataset.add_new("SeriesDescription", "SQ", [item])
    path = write(dataset, tmp_path / "study.dcm")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\x10\x00\x00\x40LT", b"\x10\x00\x00\x40RE"))
    assert read_header(path).series_description == ""


def test_left_over_vectors_of_projections_do_no_harm():
    assert read_nm(volume(AngularViewVector=SLICES[::-1])).warnings == ()
