"""Fields that many events have, and what may stand in them."""

from typing import Annotated

from pydantic import Field

OrgId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}$")]
"""An organisation, as the platform names it. It stands in log lines and in keys, so it has no white space and no control characters."""

MetaId = Annotated[str, Field(pattern=r"^[0-9]{5,20}$")]
"""A business number or a WhatsApp business account, as Meta numbers it. It becomes part of addresses at the Graph API."""
