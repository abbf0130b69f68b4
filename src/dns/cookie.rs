//! DNS cookies (RFC 7873) in the form that servers behind one address can share (RFC 9018 §4).
//!
//! ```text
//! +---------------+---------+----------+-----------+-----------------------------------------------------+
//! | client cookie | version | reserved | timestamp | SipHash-2-4 of all before and the client's address  |
//! |   8 octets    |    1    |    3     |     4     |                          8                          |
//! +---------------+---------+----------+-----------+-----------------------------------------------------+
//!                 └───────────────────────── server cookie ──────────────────────────────────────────────┘
//! ```
//! A server cookie says that whoever sends it has received packets at that address within the last hour. What follows
//! from that is up to others.

use std::fmt;
use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip::SipHasher24;

/// Octets of a client cookie.
const CLIENT: usize = 8;
/// Octets of a server cookie of ours.
const SERVER: usize = 16;
/// Octets of a cookie of ours: client's and server's part.
pub const COOKIE: usize = CLIENT + SERVER;
/// Octets of a server cookie, whoever made it (RFC 7873 §4.2).
const ANY_SERVER: std::ops::RangeInclusive<usize> = 8..=32;
/// Octets of a server cookie before the hash.
const HEAD: usize = 8;
/// The only version there is.
const VERSION: u8 = 1;
/// A server cookie is good for so many seconds (RFC 9018 §4.3).
const OLDEST: i32 = 3600;
/// The clock of the node that made it may be so many seconds ahead.
const NEWEST: i32 = -300;
/// A server cookie older than so many seconds is replaced.
const RENEW: i32 = 1800;

/// A cookie as received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// What the client made up.
    pub client: [u8; CLIENT],
    /// What it says that it got from this server.
    pub server: ServerCookie,
}

/// The server's part of a cookie as received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerCookie {
    /// There is none.
    Absent,
    /// Of a length that ours do not have.
    Foreign,
    /// It may be one of ours.
    Likely([u8; SERVER]),
}

impl Cookie {
    /// From the data of the option; `None` for a length that no cookie has.
    #[must_use]
    pub fn read(data: &[u8]) -> Option<Cookie> {
        let (&client, server) = data.split_first_chunk::<CLIENT>()?;
        let server = match server.len() {
            0 => ServerCookie::Absent,
            SERVER => ServerCookie::Likely(*server.first_chunk()?),
            length if ANY_SERVER.contains(&length) => ServerCookie::Foreign,
            _ => return None,
        };
        Some(Cookie { client, server })
    }
}

/// When a UDP query whose client has a cookie and no good server cookie is told BADCOOKIE instead of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Require {
    /// Never.
    Never,
    /// Where the rate limit would withhold its answer.
    #[default]
    Limited,
    /// Always.
    Always,
}

/// What is known of whoever sent a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It has received packets at its address.
    Good,
    /// It does not claim to.
    Absent,
    /// It claims to, and that is not so, or not any more.
    Bad,
}

/// A secret that server cookies are made with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret(pub [u8; 16]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// From 32 hexadecimal digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Secret> {
        let is_hex = text.len() == 32 && text.bytes().all(|octet| octet.is_ascii_hexdigit());
        is_hex.then(|| u128::from_str_radix(text, 16).ok().map(|bits| Secret(bits.to_be_bytes()))).flatten()
    }

    /// As 32 hexadecimal digits.
    #[must_use]
    pub fn to_hex(self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.0))
    }

    fn hash(self, client: [u8; CLIENT], head: [u8; HEAD], address: IpAddr) -> [u8; 8] {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(&client);
        hasher.write(&head);
        match address.to_canonical() {
            IpAddr::V4(address) => hasher.write(&address.octets()),
            IpAddr::V6(address) => hasher.write(&address.octets()),
        }
        hasher.finish().to_le_bytes()
    }
}

/// Secrets in force: the first makes server cookies, all of them are accepted. None = there are no cookies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets(pub Vec<Secret>);

impl Secrets {
    /// The cookie to send to `address` for the one that it sent, and what that proves, by the wall clock in seconds
    /// since the Unix epoch modulo 2^32 (RFC 9018 §4.3); `None` without secrets.
    #[must_use]
    pub fn answer(&self, cookie: &Cookie, address: IpAddr, now: u32) -> Option<([u8; COOKIE], Proof)> {
        let (&first, others) = self.0.split_first()?;
        let by = |server, secret| good_for(secret, cookie.client, server, address, now);
        let (proof, kept) = match cookie.server {
            ServerCookie::Absent => (Proof::Absent, None),
            ServerCookie::Foreign => (Proof::Bad, None),
            ServerCookie::Likely(server) => match by(server, first) {
                Some(age) => (Proof::Good, (age <= RENEW).then_some(server)),
                None if others.iter().any(|&secret| by(server, secret).is_some()) => (Proof::Good, None),
                None => (Proof::Bad, None),
            },
        };
        let server = kept.unwrap_or_else(|| make(first, cookie.client, address, now));
        let mut octets = [0; COOKIE];
        octets[..CLIENT].copy_from_slice(&cookie.client);
        octets[CLIENT..].copy_from_slice(&server);
        Some((octets, proof))
    }
}

fn make(secret: Secret, client: [u8; CLIENT], address: IpAddr, now: u32) -> [u8; SERVER] {
    let [a, b, c, d] = now.to_be_bytes();
    let head = [VERSION, 0, 0, 0, a, b, c, d];
    let mut server = [0; SERVER];
    server[..HEAD].copy_from_slice(&head);
    server[HEAD..].copy_from_slice(&secret.hash(client, head, address));
    server
}

/// The age in seconds of a server cookie that was made with this secret and has not expired; in serial arithmetic, so
/// that 2038 and 2106 are years as any other. Reserved octets are part of what is hashed, whatever they are.
fn good_for(secret: Secret, client: [u8; CLIENT], server: [u8; SERVER], address: IpAddr, now: u32) -> Option<i32> {
    let [version, _, _, _, a, b, c, d, ..] = server;
    let age = now.wrapping_sub(u32::from_be_bytes([a, b, c, d])).cast_signed();
    if version != VERSION || !(NEWEST..=OLDEST).contains(&age) {
        return None;
    }
    let (head, hash) = server.split_first_chunk::<HEAD>()?;
    // Compared as one number: how long that takes says nothing of where they differ.
    let hash = u64::from_ne_bytes(*hash.first_chunk()?);
    (u64::from_ne_bytes(secret.hash(client, *head, address)) == hash).then_some(age)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
    }

    fn cookie(hex: &str) -> Cookie {
        Cookie::read(&octets(hex)).expect("a cookie")
    }

    fn secrets(hex: &[&str]) -> Secrets {
        Secrets(hex.iter().map(|hex| Secret::from_hex(hex).expect("a secret")).collect())
    }

    fn answer(secrets: &Secrets, sent: &str, from: &str, now: u32) -> (String, Proof) {
        let address = from.parse().expect("an address");
        let (octets, proof) = secrets.answer(&cookie(sent), address, now).expect("secrets");
        (octets.iter().map(|octet| format!("{octet:02x}")).collect(), proof)
    }

    const SECRET: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";

    /// RFC 9018, appendix A.
    #[test]
    fn test_vectors() {
        let one = secrets(&[SECRET]);
        let rolled = secrets(&["445536bcd2513298075a5d379663c962", "dd3bdf9344b678b185a6f5cb60fca715"]);
        let ipv6 = "2001:db8:220:1:59de:d0f4:8769:82b8";
        for (secrets, sent, from, now, expected, proof) in [
            (
                &one,
                "2464c4abcf10c957",
                "198.51.100.100",
                1_559_731_985,
                "2464c4abcf10c957010000005cf79f111f8130c3eee29480",
                Proof::Absent,
            ),
            (
                &one,
                "2464c4abcf10c957010000005cf79f111f8130c3eee29480",
                "198.51.100.100",
                1_559_734_385,
                "2464c4abcf10c957010000005cf7a871d4a564a1442aca77",
                Proof::Good,
            ),
            (
                &one,
                "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5",
                "203.0.113.203",
                1_559_727_985,
                "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5",
                Proof::Good,
            ),
            (
                &one,
                "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5",
                "203.0.113.203",
                1_559_734_700,
                "fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e",
                Proof::Bad,
            ),
            (
                &rolled,
                "22681ab97d52c298010000005cf7c57926556bd0934c72f8",
                ipv6,
                1_559_741_961,
                "22681ab97d52c298010000005cf7c609a6bb79d16625507a",
                Proof::Good,
            ),
        ] {
            assert_eq!(answer(secrets, sent, from, now), (expected.to_owned(), proof), "{sent} at {now}");
        }
    }

    #[test]
    fn a_cookie_ages() {
        let one = secrets(&[SECRET]);
        // Around the first and the second turn of 32 bits as well.
        for made in [1_559_731_985, 0x7fff_ff00, 0xffff_ff00, 10] {
            let (sent, _) = answer(&one, "2464c4abcf10c957", "192.0.2.1", made);
            for (age, proof, is_kept) in [
                (-301, Proof::Bad, false),
                (-300, Proof::Good, true),
                (0, Proof::Good, true),
                (1800, Proof::Good, true),
                (1801, Proof::Good, false),
                (3600, Proof::Good, false),
                (3601, Proof::Bad, false),
                (i32::MIN, Proof::Bad, false),
            ] {
                let now = made.wrapping_add_signed(age);
                let (back, is) = answer(&one, &sent, "192.0.2.1", now);
                assert_eq!((is, back == sent), (proof, is_kept), "made at {made}, {age} s old");
                assert_eq!(answer(&one, &back, "192.0.2.1", now).1, Proof::Good, "what is sent back is good");
            }
        }
    }

    #[test]
    fn a_cookie_is_of_one_client() {
        let (one, two) = (secrets(&[SECRET]), secrets(&["00112233445566778899aabbccddeeff", SECRET]));
        let (sent, _) = answer(&one, "2464c4abcf10c957", "192.0.2.1", 1000);
        let other_client = sent.replacen("24", "25", 1);
        let other_hash = format!("{}00", &sent[..46]);
        let other_version = format!("{}02{}", &sent[..16], &sent[18..]);
        let longer = format!("{sent}00");
        for (secrets, sent, from, proof) in [
            (&one, &sent, "192.0.2.1", Proof::Good),
            (&one, &sent, "::ffff:192.0.2.1", Proof::Good),
            (&one, &sent, "192.0.2.2", Proof::Bad),
            (&two, &sent, "192.0.2.1", Proof::Good),
            (&secrets(&["00112233445566778899aabbccddeeff"]), &sent, "192.0.2.1", Proof::Bad),
            (&one, &other_client, "192.0.2.1", Proof::Bad),
            (&one, &other_hash, "192.0.2.1", Proof::Bad),
            (&one, &other_version, "192.0.2.1", Proof::Bad),
            (&one, &longer, "192.0.2.1", Proof::Bad),
        ] {
            assert_eq!(answer(secrets, sent, from, 1000).1, proof, "{sent} from {from}");
        }
        // The secret that makes cookies now replaces what another one made.
        assert_ne!(answer(&two, &sent, "192.0.2.1", 1000).0, sent);
        assert_eq!(Secrets::default().answer(&cookie(&sent), [192, 0, 2, 1].into(), 1000), None);
    }

    #[test]
    fn lengths() {
        for length in 0..=60 {
            let is_good = length == 8 || (16..=40).contains(&length);
            assert_eq!(Cookie::read(&vec![7; length]).is_some(), is_good, "{length} octets");
        }
    }

    #[test]
    fn secrets_in_hex() {
        assert_eq!(Secret::from_hex(SECRET).map(Secret::to_hex).as_deref(), Some(SECRET));
        for wrong in ["", "e5", "+5e973e5a6b2a43f48e7dc849e37bfcf", "e5e973e5a6b2a43f48e7dc849e37bfcg"] {
            assert_eq!(Secret::from_hex(wrong), None, "{wrong}");
        }
        assert!(!format!("{:?}", secrets(&[SECRET])).contains("e5"));
    }
}
