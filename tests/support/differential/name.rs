//! Names in wire format, made and written apart from the server's own code.

/// Most octets of a name.
pub const MAX_NAME: usize = 255;

/// An uncompressed name.
pub type Wire = Vec<u8>;

/// A name from plain text without escapes; `""` is the root.
pub fn of(text: &str) -> Wire {
    let labels = text.split('.').filter(|label| !label.is_empty());
    let mut wire: Wire = labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    wire.push(0);
    wire
}

/// The name below `parent`; `None` when it would be too long.
pub fn below(label: &[u8], parent: &[u8]) -> Option<Wire> {
    let wire = [&[label.len() as u8], label, parent].concat();
    Some(wire).filter(|wire| wire.len() <= MAX_NAME)
}

/// The name without its leftmost label; that of the root is the root.
pub fn parent(name: &[u8]) -> &[u8] {
    match name {
        [0, ..] | [] => name,
        [length, rest @ ..] => &rest[usize::from(*length)..],
    }
}

/// The name and all above it, the root last.
pub fn upwards(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(name), |name| (name.len() > 1).then(|| parent(name)))
}

/// Whether `name` is `above`, or below it; both in lower case.
pub fn is_within(name: &[u8], above: &[u8]) -> bool {
    upwards(name).any(|each| each == above)
}

/// As a zone file has it (RFC 1035 §5.1).
pub fn text(name: &[u8]) -> String {
    let mut text = String::new();
    for each in upwards(name).filter(|each| each.len() > 1) {
        for &octet in &each[1..][..usize::from(each[0])] {
            match octet {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'*' => text.push(octet.into()),
                _ => text += &format!("\\{octet:03}"),
            }
        }
        text.push('.');
    }
    if text.is_empty() { ".".to_owned() } else { text }
}
