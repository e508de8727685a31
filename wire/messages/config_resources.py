"""What configs belong to: `resource_type` of DescribeConfigs, AlterConfigs and ListConfigResources."""

from typing import Final

TOPIC: Final = 2
BROKER: Final = 4
BROKER_LOGGER: Final = 8
CLIENT_METRICS: Final = 16
GROUP: Final = 32
