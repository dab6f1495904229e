//! PBKDF2 (RFC 8018, 5.2) with HMAC-SHA-256 or HMAC-SHA-512, in the spellings of
//!
//! - the PHC string format: `$pbkdf2-sha256$i=600000,l=32$SALT$OUTPUT`, where `l` may be left out,
//! - passlib: `$pbkdf2-sha512$25000$SALT$OUTPUT`, in a base64 that has `.` in place of `+`,
//! - Django: `pbkdf2_sha256$600000$SALT$OUTPUT`, where the salt is text as it is, and the output is padded.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Sha256, Sha512};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::stored::{Unusable, base64, number, numbers, salted};

/// The iterations over all of the output: one and a half seconds, or two where the CPU has no instructions for SHA-256. Eight
/// times what OWASP asks for.
const MAX_ITERATIONS: u32 = 5_000_000;

/// A PBKDF2 hash.
#[derive(Clone)]
pub struct Pbkdf2Hash {
    digest: Digest,
    iterations: u32,
    salt: Vec<u8>,
    output: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Digest {
    Sha256,
    Sha512,
}

impl Digest {
    /// Bytes of output that cost the iterations once.
    fn length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

impl Pbkdf2Hash {
    /// Of a string in the PHC string format or that of passlib, whose kind was recognised.
    pub(super) fn parse(stored: &str) -> Result<Self, Unusable> {
        let parts: Vec<&str> = stored.splitn(6, '$').collect();
        let &["", kind, cost, salt, output] = parts.as_slice() else {
            return Err(Unusable::Malformed);
        };
        let digest = if kind == "pbkdf2-sha512" {
            Digest::Sha512
        } else {
            Digest::Sha256
        };
        if !cost.contains('=') {
            let base64 = |text: &str| base64(&text.replace('.', "+"));
            return Self::new(digest, number(cost)?, base64(salt)?, base64(output)?);
        }
        let (iterations, length) = if cost.contains(',') {
            let [iterations, length] = numbers(cost, ["i", "l"])?;
            (iterations, Some(length))
        } else {
            let [iterations] = numbers(cost, ["i"])?;
            (iterations, None)
        };
        let hash = Self::new(digest, iterations, base64(salt)?, base64(output)?)?;
        match length {
            Some(length) if usize::try_from(length) != Ok(hash.output.len()) => {
                Err(Unusable::Malformed)
            }
            _ => Ok(hash),
        }
    }

    /// Of a string of Django, whose kind was recognised.
    pub(super) fn parse_django(stored: &str) -> Result<Self, Unusable> {
        let parts: Vec<&str> = stored.splitn(5, '$').collect();
        let &[_, iterations, salt, output] = parts.as_slice() else {
            return Err(Unusable::Malformed);
        };
        let output = STANDARD.decode(output).map_err(|_| Unusable::Malformed)?;
        Self::new(Digest::Sha256, number(iterations)?, salt.into(), output)
    }

    fn new(
        digest: Digest,
        iterations: u32,
        salt: Vec<u8>,
        output: Vec<u8>,
    ) -> Result<Self, Unusable> {
        let (salt, output) = salted(salt, output)?;
        if iterations == 0 {
            return Err(Unusable::Malformed);
        }
        let times = u32::try_from(output.len().div_ceil(digest.length())).unwrap_or(u32::MAX);
        if iterations.saturating_mul(times) > MAX_ITERATIONS {
            return Err(Unusable::BeyondBounds);
        }
        Ok(Self {
            digest,
            iterations,
            salt,
            output,
        })
    }

    /// Runs PBKDF2 over `input` and compares in constant time.
    pub(super) fn matches(&self, input: &[u8]) -> bool {
        let mut output = Zeroizing::new(vec![0; self.output.len()]);
        let run = match self.digest {
            Digest::Sha256 => ::pbkdf2::pbkdf2_hmac::<Sha256>,
            Digest::Sha512 => ::pbkdf2::pbkdf2_hmac::<Sha512>,
        };
        run(input, &self.salt, self.iterations, &mut output);
        output.ct_eq(&self.output).into()
    }
}
