"""What an API server was asked about our kinds, by its own count: the only witness that misses no request.

Keys are `farmclusters/status APPLY`, `members LIST`, ...; watches are left out, they are counted when they end.
"""

import re
from collections import Counter

import aiohttp

from farmstead_kube import Client

LINE = re.compile(r"^apiserver_request_total\{(?P<labels>[^}]*)\} (?P<count>\S+)$", re.MULTILINE)
GROUP = "farmstead.dev"


async def requests(client: Client) -> Counter[str]:
    """How often each thing was asked for until now; needs the right to read the API server's metrics."""
    timeout = aiohttp.ClientTimeout(total=15)
    async with client.connection.request("GET", "/metrics", query={}, timeout=timeout) as response:
        text = (await response.read()).decode()
    found: Counter[str] = Counter()
    for match in LINE.finditer(text):
        labels = dict(re.findall(r'(\w+)="([^"]*)"', match["labels"]))
        if labels["group"] == GROUP and labels["verb"] != "WATCH":
            what = "/".join(filter(None, (labels["resource"], labels["subresource"])))
            found[f"{what} {labels['verb']}"] += int(float(match["count"]))
    return found
