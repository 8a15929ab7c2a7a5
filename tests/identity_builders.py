"""An image with something identifying in every imaginable place."""

from __future__ import annotations

from dataclasses import dataclass

from dicom_builders import file_bytes, nm_image
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from mpi_unet.dicom.nm_modules import value_mapping


@dataclass(frozen=True)
class Planted:
    """An image with something identifying in every imaginable place.

    Attributes:
        dataset: The image.
        secrets: Place to the bytes that give it away when they stand in a file.
        content: The image as a file, preamble and meta information included.
    """

    dataset: Dataset
    secrets: dict[str, bytes]
    content: bytes


TEXTS = {
    "patient's name": "PatientName",
    "patient's id": "PatientID",
    "issuer of the id": "IssuerOfPatientID",
    "other ids": "OtherPatientIDs",
    "birth name": "PatientBirthName",
    "address": "PatientAddress",
    "telephone": "PatientTelephoneNumbers",
    "occupation": "Occupation",
    "ethnic group": "EthnicGroup",
    "patient comments": "PatientComments",
    "medical alerts": "MedicalAlerts",
    "history": "AdditionalPatientHistory",
    "responsible person": "ResponsiblePerson",
    "accession number": "AccessionNumber",
    "study id": "StudyID",
    "study description": "StudyDescription",
    "series description": "SeriesDescription",
    "protocol name": "ProtocolName",
    "image id": "ImageID",
    "image comments": "ImageComments",
    "derivation description": "DerivationDescription",
    "institution": "InstitutionName",
    "institution's address": "InstitutionAddress",
    "department": "InstitutionalDepartmentName",
    "station": "StationName",
    "device serial number": "DeviceSerialNumber",
    "manufacturer": "Manufacturer",
    "camera model": "ManufacturerModelName",
    "software": "SoftwareVersions",
    "operator": "OperatorsName",
    "performing physician": "PerformingPhysicianName",
    "referring physician": "ReferringPhysicianName",
    "reading physician": "NameOfPhysiciansReadingStudy",
    "requested procedure": "RequestedProcedureDescription",
    "performed step": "PerformedProcedureStepDescription",
    "admission id": "AdmissionID",
    "window explanation": "WindowCenterWidthExplanation",
    "earlier de-identification": "DeidentificationMethod",
    "processing function": "ProcessingFunction",
    "trigger": "TriggerSourceOrType",
    "position reference": "PositionReferenceIndicator",
}
DATES = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "PatientBirthDate", "InstanceCreationDate")
TIMES = ("StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime", "InstanceCreationTime")
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID", "InstanceCreatorUID")


def planted() -> Planted:
    """The image; each place has a content of its own, so that one can tell which of them survived."""
    image = nm_image("RECON GATED TOMO")
    secrets: dict[str, bytes] = {}

    def secret(place: str) -> str:
        text = f"ZQ{len(secrets):03d}SECRET"
        secrets[place] = text.encode("ascii")
        return text

    for place, keyword in TEXTS.items():
        setattr(image, keyword, secret(place))
    for number, keyword in enumerate(DATES):
        setattr(image, keyword, f"197{number}0{number + 1}2{number}")
        secrets[f"date: {keyword}"] = str(image[keyword].value).encode("ascii")
    for number, keyword in enumerate(TIMES):
        setattr(image, keyword, f"1{number}5{number}3{number}.7{number}7{number}")
        secrets[f"time: {keyword}"] = str(image[keyword].value).encode("ascii")
    for number, keyword in enumerate(UIDS):
        setattr(image, keyword, f"1.2.826.0.1.3680043.9.9999.{number}.47110815")
        secrets[f"identifier: {keyword}"] = str(image[keyword].value).encode("ascii")
    image.PatientAge, image.PatientSize, image.PatientWeight = "067Y", "1.7731", "81.337"
    secrets["age"], secrets["size"], secrets["weight"] = b"067Y", b"1.7731", b"81.337"
    image.ImageType = [*image.ImageType, "ZQ TYPE SECRET"]
    secrets["image type, value 5"] = b"ZQ TYPE SECRET"
    image.BodyPartExamined = "ZQBODYSECRET"
    secrets["body part"] = b"ZQBODYSECRET"

    ids, request, source = Dataset(), Dataset(), Dataset()
    ids.PatientID = secret("other ids, nested")
    image.OtherPatientIDsSequence = [ids]
    request.RequestedProcedureID = secret("request, nested")
    request.ReferringPhysicianName = secret("physician, nested")
    image.RequestAttributesSequence = [request]
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = image.SOPClassUID, "1.2.826.0.1.3680043.9.9999.7"
    source.PurposeOfReferenceCodeSequence = [code_item("121326", "DCM", secret("code meaning in a reference"))]
    secrets["identifier: reference, nested"] = b"1.2.826.0.1.3680043.9.9999.7"
    image.SourceImageSequence = [source]
    image.ProcedureCodeSequence = [code_item("17", "99LOCAL", secret("procedure code"))]

    detector, tracer = image.DetectorInformationSequence[0], image.RadiopharmaceuticalInformationSequence[0]
    detector.CollimatorGridName, detector.DetectorID = secret("collimator")[:16], secret("detector")[:16]
    window = image.EnergyWindowInformationSequence[0]
    window.EnergyWindowName = secret("energy window")
    tracer.Radiopharmaceutical = secret("tracer")
    tracer.RadiopharmaceuticalStartTime = "175901.4321"
    secrets["time: injection"] = b"175901.4321"
    tracer.RadiopharmaceuticalCodeSequence[0].CodeMeaning = secret("code meaning, nested")
    tracer.RadionuclideCodeSequence = [code_item(secret("code value, nested")[:16], "SCT", "Tc-99m")]
    mapping = value_mapping(1.0)
    mapping.LUTLabel, mapping.LUTExplanation = secret("mapping label")[:16], secret("mapping explanation")
    image.RealWorldValueMappingSequence = [mapping]

    block = image.private_block(0x0009, secret("private creator"), create=True)
    block.add_new(0x01, "LO", secret("private text"))
    block.add_new(0x02, "OB", secret("private bytes").encode("ascii") + b"!")
    nested = detector.private_block(0x0055, secret("private creator, nested"), create=True)
    nested.add_new(0x01, "LO", secret("private text, nested"))
    item = Dataset()
    item.PatientName = secret("private sequence")
    block.add_new(0x03, "SQ", [item])
    image.add_new(0x00089ABC, "LO", secret("unknown attribute"))
    image.add_new(0x60003000, "OB", secret("overlay").encode("ascii") + b"!")
    image.add_new(0x60004000, "LT", secret("overlay comment"))
    icon = Dataset()
    icon.Rows, icon.Columns, icon.BitsAllocated, icon.BitsStored, icon.HighBit = 4, 4, 8, 8, 7
    icon.SamplesPerPixel, icon.PhotometricInterpretation, icon.PixelRepresentation = 1, "MONOCHROME2", 0
    icon.PixelData = b"ZQICONSECRET!!!!"
    secrets["icon"] = b"ZQICONSECRET"
    image.IconImageSequence = [icon]
    original, attributes = Dataset(), Dataset()
    attributes.PatientName = secret("original attributes")
    original.ModifiedAttributesSequence = [attributes]
    original.ModifyingSystem, original.ReasonForTheAttributeModification = secret("modifying system"), "CORRECT"
    image.OriginalAttributesSequence = [original]
    image.add_new(0xFFFCFFFC, "OB", secret("trailing padding").encode("ascii") + b"!")

    image.file_meta.SourceApplicationEntityTitle = secret("file meta: sender")
    image.file_meta.PrivateInformationCreatorUID = "1.2.826.0.1.3680043.9.9999.8"
    image.file_meta.PrivateInformation = secret("file meta: private").encode("ascii") + b"!"
    image.preamble = secret("preamble").encode("ascii").ljust(128, b"\0")
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return Planted(image, secrets, file_bytes(image))


def code_item(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def surviving(content: bytes, secrets: dict[str, bytes]) -> list[str]:
    """The places whose content stands in a file."""
    return [place for place, secret in secrets.items() if secret in content]
