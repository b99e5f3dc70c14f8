"""Ten tabular data sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .common import Parts, age_group, codes_of, read_table, strings

__all__ = ["TABULAR"]

_ADULT = [
    "age",
    "workclass",
    "fnlwgt",
    "education",
    "education-num",
    "marital-status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "capital-gain",
    "capital-loss",
    "hours-per-week",
    "native-country",
    "income",
]


def _adult(folder: Path) -> Parts:
    import pandas as pd

    options: dict[str, Any] = {"header": None, "names": _ADULT, "skipinitialspace": True, "na_values": ["?"]}
    train = read_table(folder, "adult.data", rows=32_561, **options)
    # The first line of the test file is a comment, and its labels end with a dot.
    test = read_table(folder, "adult.test", rows=16_281, skiprows=1, **options)
    frame = pd.concat([train, test], ignore_index=True)
    y = codes_of(frame["income"].str.rstrip("."), ("<=50K", ">50K"), "income")
    groups = strings(sex=frame["sex"], race=frame["race"])
    split = np.repeat(np.array(["train", "test"], dtype=object), [len(train), len(test)])
    return Parts(frame.drop(columns="income"), y, ("<=50K", ">50K"), groups, official_split=split)


def _arrests(folder: Path) -> Parts:
    frame = read_table(folder, "Arrests.csv", rows=5_226).drop(columns="rownames")
    y = codes_of(frame["released"], ("No", "Yes"), "released")
    groups = strings(colour=frame["colour"], sex=frame["sex"], citizen=frame["citizen"])
    return Parts(frame.drop(columns="released"), y, ("No", "Yes"), groups)


def _compas(folder: Path) -> Parts:
    frame = read_table(folder, "compas-scores-two-years.csv", rows=7_214, low_memory=False)
    # ProPublica's filter: the arrest belongs to the assessment (within 30 days), the case was found, the
    # charge is not an ordinary traffic offence, and there is a score.
    keep = (
        frame["days_b_screening_arrest"].between(-30, 30)
        & (frame["is_recid"] != -1)
        & (frame["c_charge_degree"] != "O")
        & (frame["score_text"].notna() & (frame["score_text"] != "N/A"))
    )
    frame = frame[keep]
    # Known when the score is made. The other columns are names, the score itself, or what happened after.
    features = "sex age age_cat race juv_fel_count juv_misd_count juv_other_count priors_count c_charge_degree"
    groups = strings(race=frame["race"], sex=frame["sex"], age_cat=frame["age_cat"])
    return Parts(frame[features.split()], frame["two_year_recid"], ("no recidivism", "recidivism"), groups)


_CONTRAC = [
    "age",
    "wife_edu",
    "husband_edu",
    "nchildren",
    "religion",
    "working",
    "husband_occ",
    "living_std",
    "media_exposure",
    "method",
]


def _contrac(folder: Path) -> Parts:
    frame = read_table(folder, "contrac.csv", rows=1_473, header=None, names=_CONTRAC)
    y = codes_of(frame["method"], (1, 2, 3), "method")
    groups = strings(
        religion=frame["religion"].map({0: "other", 1: "Islam"}),
        working=frame["working"].map({0: "yes", 1: "no"}),  # so coded in the codebook: 0 means yes
        age_group=age_group(frame["age"], 32),
    )
    return Parts(frame.drop(columns="method"), y, ("none", "long-term", "short-term"), groups)


def _credit_approval(folder: Path) -> Parts:
    names = [f"A{i}" for i in range(1, 17)]
    frame = read_table(folder, "credit-approval.csv", rows=690, header=None, names=names, na_values=["?"])
    y = codes_of(frame["A16"], ("-", "+"), "A16")
    return Parts(frame.drop(columns="A16"), y, ("refused", "approved"), strings(A1=frame["A1"]))


def _credit_default(folder: Path) -> Parts:
    label = "default payment next month"
    # Two header lines: the second one has the names.
    frame = read_table(folder, "default_of_credit_card_clients.csv", rows=30_000, header=1)
    education = {1: "graduate school", 2: "university", 3: "high school"}
    marriage = {1: "married", 2: "single"}
    groups = strings(
        sex=frame["SEX"].map({1: "male", 2: "female"}),
        # The remaining codes are "others", or are not in the codebook at all.
        education=frame["EDUCATION"].map(education).fillna("other"),
        marriage=frame["MARRIAGE"].map(marriage).fillna("other"),
        age_group=age_group(frame["AGE"], 35),
    )
    return Parts(frame.drop(columns=["ID", label]), frame[label], ("no default", "default"), groups)


def _dermatology(folder: Path) -> Parts:
    names = [*(f"V{i}" for i in range(1, 34)), "age", "disease"]
    frame = read_table(folder, "dermatology.csv", rows=366, header=None, names=names, na_values=["?"])
    diseases = (
        "psoriasis",
        "seborrheic dermatitis",
        "lichen planus",
        "pityriasis rosea",
        "chronic dermatitis",
        "pityriasis rubra pilaris",
    )
    y = codes_of(frame["disease"], (1, 2, 3, 4, 5, 6), "disease")
    return Parts(frame.drop(columns="disease"), y, diseases, strings(age_group=age_group(frame["age"], 35)))


def _german(folder: Path) -> Parts:
    names = [*(f"A{i}" for i in range(1, 21)), "credit"]
    frame = read_table(folder, "german.data", rows=1_000, sep=" ", header=None, names=names)
    # 1 good, 2 bad in the file. Here good is 1, the class that group rates take as positive by default.
    y = codes_of(frame["credit"], (2, 1), "credit")
    groups = strings(
        sex=frame["A9"].isin(["A92", "A95"]).map({True: "female", False: "male"}),
        age_group=age_group(frame["A13"], 26),  # the literature's split: up to 25 years, or older
        foreign_worker=frame["A20"].map({"A201": "yes", "A202": "no"}),
    )
    return Parts(frame.drop(columns="credit"), y, ("bad", "good"), groups)


def _hmda(folder: Path) -> Parts:
    frame = read_table(folder, "HMDA.csv", rows=2_380).drop(columns="rownames")
    y = codes_of(frame["deny"], ("no", "yes"), "deny")
    groups = strings(afam=frame["afam"], single=frame["single"])
    return Parts(frame.drop(columns="deny"), y, ("granted", "denied"), groups)


def _mammo(folder: Path) -> Parts:
    names = ["bi_rads", "age", "shape", "margin", "density", "severity"]
    frame = read_table(folder, "mammo.csv", rows=961, header=None, names=names, na_values=["?"])
    groups = strings(age_group=age_group(frame["age"], 57))
    return Parts(frame.drop(columns="severity"), frame["severity"], ("benign", "malignant"), groups)


TABULAR: dict[str, Callable[[Path], Parts]] = {
    "adult": _adult,
    "arrests": _arrests,
    "compas": _compas,
    "contrac": _contrac,
    "credit_approval": _credit_approval,
    "credit_default": _credit_default,
    "dermatology": _dermatology,
    "german": _german,
    "hmda": _hmda,
    "mammo": _mammo,
}
