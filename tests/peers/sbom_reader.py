"""Reads a bill of materials as a scanner would: the strict schema, then every licence and package URL.

Prints one JSON object: the purl of each component by its name (null where there is none).
"""

import json
import sys

from cyclonedx.model.bom import Bom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from license_expression import get_spdx_licensing

text = open(sys.argv[1], encoding="utf-8").read()
error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
if error is not None:
    sys.exit(f"not CycloneDX 1.6: {error}")

bom = Bom.from_json(json.loads(text))
# Every reference of the dependency graph has to lead to a component.
bom.validate()

spdx = get_spdx_licensing()
for component in bom.components:
    for licence in component.licenses:
        found = spdx.validate(licence.value)
        if found.errors:
            sys.exit(f"{component.name}: {found.errors}")
    if not component.licenses:
        sys.exit(f"{component.name} states no licence")

print(json.dumps({c.name: str(c.purl) if c.purl else None for c in bom.components}))
