//! Any octets as a zone file: no panic, every record that is returned is in order, and what is printed of them is read as
//! the same records.
#![no_main]

use std::io;
use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use waymark::dns::Name;
use waymark::problem::Sources;
use waymark::zone::{self, Files};

/// Whatever is included is a piece of the same text.
struct Half(String);

impl Files for Half {
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(path.into())
    }

    fn root(&self) -> Option<&Path> {
        None
    }

    fn read(&self, _: &Path) -> io::Result<String> {
        Ok(self.0.clone())
    }
}

fuzz_target!(|octets: &[u8]| {
    let text = String::from_utf8_lossy(octets);
    let origin = Name::parse("example.com.", None).expect("a name");
    let mut sources = Sources::default();
    let file = sources.add(Path::new("zone"), text.to_string());
    let half = Half(text.chars().skip(text.chars().count() / 2).collect());
    let (records, problems) = zone::parse(&mut sources, file, &origin, &half);
    for record in records.iter() {
        assert!(record.name().is_at_or_below(&origin));
        assert!(record.rdata.len() <= 65_535);
        assert!(i32::try_from(record.ttl).is_ok());
        assert!(!record.rtype.is_meta());
        let _ = sources.place(&record.span);
    }
    for problem in problems {
        for span in problem.span.iter().chain(problem.also.iter().map(|(span, _)| span)) {
            let _ = sources.place(span);
        }
    }
    let _ = zone::first_origin(&text);
    // A few octets of `$GENERATE` make a million records.
    if records.len() < 1000 {
        let printed: String = zone::lines(&origin, &records).map(|line| line + "\n").collect();
        let file = sources.add(Path::new("printed"), printed);
        let (again, _) = zone::parse(&mut sources, file, &origin, &half);
        assert_eq!(again.len(), records.len());
        assert_eq!(again.digest(), records.digest());
    }
});
