"""What is to be run: config.yaml and the spec documents, read, merged, checked and turned into job specs.

Standard library and PyYAML only (jsonschema when something is checked), so that a dry run stays fast.
"""

from lxmert.specs.documents import document_names, merge, read_document
from lxmert.specs.jobs import job_spec_text, read_job_spec
from lxmert.specs.plan import Plan, load_plan
from lxmert.specs.runs import Run

__all__ = [
    "Plan",
    "Run",
    "document_names",
    "job_spec_text",
    "load_plan",
    "merge",
    "read_document",
    "read_job_spec",
]
