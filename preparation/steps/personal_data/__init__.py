"""Personal data: names, addresses, numbers of a person, found and replaced."""

from preparation.steps.personal_data.section import PersonalDataStep

__all__ = ["PersonalDataStep"]
