// Measures the way to each region and tells a collector of your own, which adds the client's address and hands it to
// `POST /v1/latency`: see "Steering by latency" in the README. Each URL is a tiny object that the region itself serves,
// with the headers `Access-Control-Allow-Origin: *` and `Timing-Allow-Origin: *`.
(async (regions, collector) => {
  const samples = [];
  // A page with 250 resources has no room for more entries.
  performance.setResourceTimingBufferSize(performance.getEntriesByType("resource").length + 50);
  for (const [region, url] of Object.entries(regions)) {
    try {
      // The first request opens the connection; the second one takes a single round trip on it.
      for (let request = 0; request < 2; request++) {
        await (await fetch(`${url}?${Math.random()}`, { cache: "no-store" })).arrayBuffer();
      }
      const last = performance.getEntriesByType("resource").filter((entry) => entry.name.startsWith(url)).pop();
      const ms = last.responseStart - last.requestStart;
      if (last.requestStart > 0 && ms > 0) samples.push({ region, "rtt-ms": Math.round(ms * 10) / 10 });
    } catch {
      // What cannot be reached is not measured.
    }
  }
  if (samples.length > 0) navigator.sendBeacon(collector, JSON.stringify(samples));
})({
  "eu-west": "https://eu-west.example.com/ping",
  "us-east": "https://us-east.example.com/ping",
  "ap-southeast": "https://ap-southeast.example.com/ping",
}, "/collect/latency");
