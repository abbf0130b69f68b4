//! How long a zone of a million records of mixed types takes: reading the file, then building what is served from.

use std::fmt::{self, Write};
use std::io;
use std::path::Path;
use std::time::Instant;

use waymark::config::{self, LoadedZone};
use waymark::zone::{self, Authority};

use crate::{Arguments, median, mib, print};

#[derive(serde::Serialize)]
struct Row {
    records: usize,
    /// Octets of the file.
    size: u64,
    /// From the file to checked records.
    read_s: f64,
    /// From the records to the table of names, and to what tells versions of the zone apart.
    build_s: f64,
    /// Both.
    load_s: f64,
    /// From the records to lines of canonical text.
    format_s: f64,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { records, size, read_s, build_s, load_s, format_s } = self;
        write!(
            f,
            "a zone of {records} records, {:.0} MiB: loaded in {load_s:.2} s ({read_s:.2} s to read and check, {build_s:.2} s \
             to build); formatted in {format_s:.2} s",
            mib(*size)
        )
    }
}

/// Reads a zone of `--names` records and builds it, `--rounds` times.
pub(crate) fn run(arguments: &Arguments, folder: &Path) -> io::Result<()> {
    let path = folder.join("example.com.zone");
    std::fs::write(&path, zone(arguments.names as usize))?;
    let size = path.metadata()?.len();
    let (mut reads, mut builds, mut loads, mut formats, mut count) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), 0);
    for _ in 0..arguments.rounds {
        let begun = Instant::now();
        let LoadedZone { origin, records, problems, sources } = config::load_zone(&path, None, None);
        let read = begun.elapsed().as_secs_f64();
        let origin = origin.filter(|_| problems.is_empty());
        let origin =
            origin.ok_or_else(|| io::Error::other(format!("the zone has problems: {:?}", problems.first())))?;
        drop(sources);
        count = records.len();
        let begun = Instant::now();
        let octets: usize = zone::lines(&origin, &records).map(|line| line.len()).sum();
        std::hint::black_box(octets);
        formats.push(begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        let digest = records.digest();
        let authority = Authority::build([(origin, records)], std::iter::empty());
        let build = begun.elapsed().as_secs_f64();
        std::hint::black_box((&authority, digest));
        reads.push(read);
        builds.push(build);
        loads.push(read + build);
    }
    let row = Row {
        records: count,
        size,
        read_s: median(&mut reads),
        build_s: median(&mut builds),
        load_s: median(&mut loads),
        format_s: median(&mut formats),
    };
    print(&row, arguments.json, &row.to_string())
}

/// A zone file of about `count` records: of ten, three A, AAAA, MX, TXT, CAA or HTTPS, SRV, CNAME, and a delegation.
fn zone(count: usize) -> String {
    let mut text = String::from("$TTL 300\n@ SOA ns hostmaster 1 7200 1800 259200 60\n@ NS ns\nns A 192.0.2.53\n");
    let mut written = 3;
    let mut at = 0;
    while written < count {
        let [_, a, b, c] = (at as u32).to_be_bytes();
        let sixth = if at % 2 == 0 { "CAA 0 issue \"ca.example; account=7\"" } else { "HTTPS 1 . alpn=h2,h3 port=443" };
        let lines = [
            format!("h{at} A 10.{a}.{b}.{c}"),
            format!("  A 11.{a}.{b}.{c}"),
            format!("  AAAA 2001:db8:{a:x}:{b:x}{c:02x}::1"),
            format!("  MX 10 h{at}"),
            format!("  TXT \"v=spf1 ip4:10.{a}.{b}.{c} -all\" {at}"),
            format!("  {sixth}"),
            format!("_sip._udp.h{at} 1h IN SRV 10 20 5060 h{at}.example.com."),
            format!("Alias-{at} 60 CNAME h{at}"),
            format!("sub{at} NS ns.sub{at}"),
            format!("ns.sub{at} A 12.{a}.{b}.{c}"),
        ];
        for line in &lines {
            let _ = writeln!(text, "{line}");
        }
        written += lines.len();
        at += 1;
    }
    text
}
