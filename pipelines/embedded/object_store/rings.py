"""Write the three rings of a Swift with one device, in the object store's own environment.

python rings.py FOLDER
"""

from __future__ import annotations

import sys

# Rings name a server by host and port. These ports are names only: the servers are in one process (see in_process),
# and nothing listens there.
SERVERS = {"account": 6202, "container": 6201, "object": 6200}


def write_ring(path: str, port: int) -> None:
    """2**4 partitions, one replica, one device `d1` on loopback."""
    from swift.common.ring import RingBuilder  # type: ignore[import-not-found]

    builder = RingBuilder(part_power=4, replicas=1, min_part_hours=1)
    builder.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": "d1", "weight": 1})
    builder.rebalance(seed="evergreen")
    builder.get_ring().save(path)


if __name__ == "__main__":
    for kind, ring_port in SERVERS.items():
        write_ring(f"{sys.argv[1]}/{kind}.ring.gz", ring_port)
