"""How well masks, volumes and categories agree: between readers, and between a network and readers.

Arrays in, a frozen dataclass out, whose fields carry the estimate, its interval, the method and the number of patients.
One row is one patient: slices and pixels of a patient are not independent of one another and are never the unit. A NaN
is a reading that was not made; it is counted and never filled in. See docs/agreement.md.
"""

from mpi_unet.agreement.calibration import (
    Calibration,
    MeanCalibration,
    calibration,
    mean_calibration,
    patient_calibration,
    region_of_interest,
)
from mpi_unet.agreement.categories import CategoryAgreement, cohen_kappa, cohen_kappa_of_table, fleiss_kappa, gwet_ac1
from mpi_unet.agreement.clustered_categories import ClusteredAgreement, clustered_agreement
from mpi_unet.agreement.concordance import Ccc, lin_ccc
from mpi_unet.agreement.consensus import (
    Consensus,
    leave_one_out_consensus,
    majority_vote,
    readers_against_others,
    signed_distance_mean,
)
from mpi_unet.agreement.delong import DeLong, delong
from mpi_unet.agreement.equivalence import (
    EquivalenceTest,
    NoninferiorityTest,
    noninferiority_paired,
    tost_bias,
    tost_paired,
    verdict_of,
)
from mpi_unet.agreement.estimate import Estimate
from mpi_unet.agreement.failures import FailureRate, failure_rate
from mpi_unet.agreement.individual import IndividualEquivalence, individual_equivalence
from mpi_unet.agreement.krippendorff import KrippendorffAlpha, krippendorff_alpha
from mpi_unet.agreement.limits import BlandAltman, bland_altman
from mpi_unet.agreement.mcnemar import (
    McNemar,
    clustered_mcnemar,
    clustered_mcnemar_of_counts,
    mcnemar,
    mcnemar_of_table,
)
from mpi_unet.agreement.mixed import CrossedComponents, crossed_components
from mpi_unet.agreement.paired import BcaBootstrap, PairedTest, bca_bootstrap, paired_t, sign_flip_test
from mpi_unet.agreement.panel import Panel, panel, panel_of_cases
from mpi_unet.agreement.panel_scores import average_cases, pairs_matrix
from mpi_unet.agreement.planning import (
    Plan,
    PlanRow,
    noninferiority_power,
    patients_needed,
    plan,
    sd_upper_limit,
    tost_power,
)
from mpi_unet.agreement.ratings import ratings_of_counts
from mpi_unet.agreement.reader_spread import ReaderSpread, reader_spread
from mpi_unet.agreement.recipes import (
    AdjustedP,
    NadeauBengio,
    RecipeComparison,
    RecipePair,
    adjusted_p_values,
    compare_recipes,
    holm,
    nadeau_bengio,
)
from mpi_unet.agreement.reliability import ICC_FORMS, Icc, Sem, icc, icc_forms, sem
from mpi_unet.agreement.replicates import ReplicateLimits, bland_altman_replicates
from mpi_unet.agreement.signed_rank import wilcoxon_signed_rank
from mpi_unet.agreement.staple import ReaderPerformance, Staple, staple
from mpi_unet.agreement.williams import WilliamsIndex, chalana_kim_index, williams_index

__all__ = [
    "ICC_FORMS",
    "AdjustedP",
    "BcaBootstrap",
    "BlandAltman",
    "Calibration",
    "CategoryAgreement",
    "Ccc",
    "ClusteredAgreement",
    "Consensus",
    "CrossedComponents",
    "DeLong",
    "EquivalenceTest",
    "Estimate",
    "FailureRate",
    "Icc",
    "IndividualEquivalence",
    "KrippendorffAlpha",
    "McNemar",
    "MeanCalibration",
    "NadeauBengio",
    "NoninferiorityTest",
    "PairedTest",
    "Panel",
    "Plan",
    "PlanRow",
    "ReaderPerformance",
    "ReaderSpread",
    "RecipeComparison",
    "RecipePair",
    "ReplicateLimits",
    "Sem",
    "Staple",
    "WilliamsIndex",
    "adjusted_p_values",
    "average_cases",
    "bca_bootstrap",
    "bland_altman",
    "bland_altman_replicates",
    "calibration",
    "chalana_kim_index",
    "clustered_agreement",
    "clustered_mcnemar",
    "clustered_mcnemar_of_counts",
    "cohen_kappa",
    "cohen_kappa_of_table",
    "compare_recipes",
    "crossed_components",
    "delong",
    "failure_rate",
    "fleiss_kappa",
    "gwet_ac1",
    "holm",
    "icc",
    "icc_forms",
    "individual_equivalence",
    "krippendorff_alpha",
    "leave_one_out_consensus",
    "lin_ccc",
    "majority_vote",
    "mcnemar",
    "mcnemar_of_table",
    "mean_calibration",
    "nadeau_bengio",
    "noninferiority_paired",
    "noninferiority_power",
    "paired_t",
    "pairs_matrix",
    "panel",
    "panel_of_cases",
    "patient_calibration",
    "patients_needed",
    "plan",
    "ratings_of_counts",
    "reader_spread",
    "readers_against_others",
    "region_of_interest",
    "sd_upper_limit",
    "sem",
    "sign_flip_test",
    "signed_distance_mean",
    "staple",
    "tost_bias",
    "tost_paired",
    "tost_power",
    "verdict_of",
    "wilcoxon_signed_rank",
    "williams_index",
]
