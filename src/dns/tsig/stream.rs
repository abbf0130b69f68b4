//! Checks the signatures of the messages that answer one query, one after the other (RFC 8945 §5.3.1): each is signed after
//! the one before. Those of older servers may leave up to 99 messages unsigned, which the next signature covers as well.

use ring::hmac;

use super::{Fault, HEADER, Key, Mac, Signer, Stamp, Tsig, find};

/// Most messages that may follow one another unsigned.
const MOST_UNSIGNED: u8 = 99;

/// Checks the answers to a query that was signed.
#[derive(Clone)]
pub struct Checker {
    key: Key,
    mac: Mac,
    /// Whether a message was signed already.
    follows: bool,
    /// What the next signature covers beside its message, and how many messages that are.
    covered: Option<hmac::Context>,
    unsigned: u8,
}

impl Checker {
    /// For the answers to the query that `asked` has signed with `key`.
    #[must_use]
    pub fn new(key: &Key, asked: &Signer) -> Checker {
        Checker { key: key.clone(), mac: asked.mac, follows: false, covered: None, unsigned: 0 }
    }

    /// Takes the next message.
    ///
    /// # Errors
    /// What is wrong with its signature; [`Fault::BadSig`] where one is missing.
    pub fn check(&mut self, message: &[u8], now: u64) -> Result<(), Fault> {
        let Some(at) = find(message) else { return self.leave_unsigned(message) };
        let tsig = Tsig::read(message, at).ok_or(Fault::Malformed)?;
        if tsig.key_name.as_wire() != self.key.name.as_wire() || tsig.algorithm.as_wire() != self.key.algorithm.name() {
            return Err(Fault::BadKey);
        }
        let whole = self.key.algorithm.octets();
        if tsig.mac.len() > whole {
            return Err(Fault::Malformed);
        }
        if tsig.mac.len() < whole {
            return Err(Fault::BadTrunc);
        }
        let mut context = self.context();
        let mut header = [0; HEADER];
        header.copy_from_slice(&message[..HEADER]);
        header[..2].copy_from_slice(&tsig.original_id);
        let records = u16::from_be_bytes([header[10], header[11]]).wrapping_sub(1);
        header[10..].copy_from_slice(&records.to_be_bytes());
        context.update(&header);
        context.update(&message[HEADER..at]);
        let stamp = Stamp { time: tsig.time, fudge: tsig.fudge, error: tsig.error, other: tsig.other };
        if self.follows {
            stamp.put_time(&mut context);
        } else {
            stamp.put(&mut context, &self.key);
        }
        if !self.key.is_same(&context.sign(), tsig.mac) {
            return Err(Fault::BadSig);
        }
        if now.abs_diff(tsig.time) > u64::from(tsig.fudge) {
            return Err(Fault::BadTime);
        }
        (self.mac, self.follows, self.unsigned) = (Mac::of(tsig.mac), true, 0);
        Ok(())
    }

    /// Whether all that was taken is covered by a signature.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.follows && self.unsigned == 0
    }

    fn leave_unsigned(&mut self, message: &[u8]) -> Result<(), Fault> {
        if !self.follows || self.unsigned == MOST_UNSIGNED {
            return Err(Fault::BadSig);
        }
        let mut context = self.context();
        context.update(message);
        (self.covered, self.unsigned) = (Some(context), self.unsigned + 1);
        Ok(())
    }

    fn context(&mut self) -> hmac::Context {
        self.covered.take().unwrap_or_else(|| {
            let mut context = hmac::Context::with_key(&self.key.key);
            self.mac.put(&mut context);
            context
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Algorithm;
    use super::*;
    use crate::dns::Name;

    const NOW: u64 = 1_700_000_000;

    fn key(secret: u8) -> Key {
        Key::new(&Name::parse("k.example", None).expect("a name"), Algorithm::Sha256, &[secret; 32])
    }

    /// A message that says nothing, signed or not.
    fn message(number: u8, signer: Option<(&mut Signer, &Key)>) -> Vec<u8> {
        let mut out = vec![0; 512];
        out[..HEADER].copy_from_slice(&[0, number, 0x84, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let length = signer.map_or(HEADER, |(signer, key)| signer.sign(key, NOW, &mut out, HEADER));
        out.truncate(length);
        out
    }

    /// Both sides after a query.
    fn begun() -> (Signer, Checker) {
        let mut asking = Signer::asking();
        let query = message(0, Some((&mut asking, &key(1))));
        let tsig = Tsig::read(&query, find(&query).expect("signed")).expect("well-formed");
        (Signer::answering(&tsig), Checker::new(&key(1), &asking))
    }

    #[test]
    fn each_message_is_signed_after_the_one_before() {
        let (mut signer, mut checker) = begun();
        let messages: Vec<Vec<u8>> = (1..5).map(|number| message(number, Some((&mut signer, &key(1))))).collect();
        for message in &messages {
            assert_eq!(checker.check(message, NOW), Ok(()));
            assert!(checker.is_signed());
        }
        let (_, mut checker) = begun();
        assert_eq!(checker.check(&messages[0], NOW + 301), Err(Fault::BadTime));
        let (_, mut checker) = begun();
        assert_eq!(checker.check(&messages[1], NOW), Err(Fault::BadSig), "one is missing");
        let (mut signer, mut checker) = begun();
        assert_eq!(checker.check(&message(1, Some((&mut signer, &key(2)))), NOW), Err(Fault::BadSig));
    }

    #[test]
    fn a_signature_covers_unsigned_messages_before_it() {
        let (mut signer, mut checker) = begun();
        assert_eq!(checker.check(&message(1, None), NOW), Err(Fault::BadSig), "the first must be signed");
        assert_eq!(checker.check(&message(1, Some((&mut signer, &key(1)))), NOW), Ok(()));
        assert_eq!(checker.check(&message(2, None), NOW), Ok(()));
        assert!(!checker.is_signed());
        // A signature that does not know of it.
        assert_eq!(checker.check(&message(3, Some((&mut signer, &key(1)))), NOW), Err(Fault::BadSig));
        let (mut signer, mut checker) = begun();
        assert_eq!(checker.check(&message(1, Some((&mut signer, &key(1)))), NOW), Ok(()));
        for number in 0..MOST_UNSIGNED {
            assert_eq!(checker.check(&message(number, None), NOW), Ok(()));
        }
        assert_eq!(checker.check(&message(0, None), NOW), Err(Fault::BadSig), "too many");
    }
}
