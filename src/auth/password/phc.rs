//! argon2 (RFC 9106) in the PHC string format, `$argon2id$v=19$m=19456,t=2,p=1$SALT$OUTPUT`: what is made here, and what is made
//! so elsewhere.

use std::fmt;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Block, Params, Version};
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::stored::{Bounds, MIN_OUTPUT_LENGTH, Unusable};

/// Salt of a new hash, in bytes (RFC 9106, 3.1).
pub const SALT_LENGTH: usize = 16;

/// Output of a new hash, in bytes.
pub const OUTPUT_LENGTH: usize = 32;

/// The longest stored string that is looked at, in bytes. The longest that the bounds below allow has about 230.
pub(super) const MAX_STORED_LENGTH: usize = 512;

/// The cost of an argon2id hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    memory_kib: u32,
    iterations: u32,
    parallelism: u32,
}

/// argon2 allows no such cost.
#[derive(Debug, thiserror::Error)]
#[error(
    "argon2 allows no cost of password.memory_kib = {memory_kib}, password.iterations = {iterations}, \
     password.parallelism = {parallelism}: at least 1 pass, 1 lane, and 8 KiB for each lane"
)]
pub struct CostError {
    memory_kib: u32,
    iterations: u32,
    parallelism: u32,
}

impl Cost {
    /// Memory in KiB, passes, lanes, within what argon2 allows (RFC 9106, 3.1).
    pub fn new(memory_kib: u32, iterations: u32, parallelism: u32) -> Result<Self, CostError> {
        // The crate multiplies the lanes by eight in 32 bits, after it has checked that there are fewer than 2^24.
        match Params::new(memory_kib, iterations, parallelism, Some(OUTPUT_LENGTH)) {
            Ok(_) => Ok(Self {
                memory_kib,
                iterations,
                parallelism,
            }),
            Err(_) => Err(CostError {
                memory_kib,
                iterations,
                parallelism,
            }),
        }
    }

    /// Memory in KiB.
    pub fn memory_kib(self) -> u32 {
        self.memory_kib
    }

    pub(super) fn parallelism(self) -> u32 {
        self.parallelism
    }

    /// KiB times passes: what the time of a run is proportional to.
    pub(super) fn work(self) -> u64 {
        u64::from(self.memory_kib) * u64::from(self.iterations)
    }

    /// The blocks of 1 KiB that a run touches.
    pub(crate) fn blocks(self) -> usize {
        self.params(OUTPUT_LENGTH)
            .map_or(0, |params| params.block_count())
    }

    fn params(self, output_length: usize) -> Result<Params, argon2::Error> {
        Params::new(
            self.memory_kib,
            self.iterations,
            self.parallelism,
            Some(output_length),
        )
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "m={},t={},p={}",
            self.memory_kib, self.iterations, self.parallelism
        )
    }
}

/// A stored argon2 hash that can be run against a password.
#[derive(Clone)]
pub struct Argon2Hash {
    algorithm: Algorithm,
    version: Version,
    cost: Cost,
    salt: Salt,
    output: Output,
}

impl Argon2Hash {
    /// Reads a stored string. It is strict: exactly the parameters `m`, `t` and `p` in this order, numbers without leading
    /// zeros, unpadded canonical base64. Without `v=` the version is 1.0 (16), as in the reference implementation.
    pub fn parse(stored: &str, bounds: &Bounds) -> Result<Self, Unusable> {
        let kind = stored
            .strip_prefix('$')
            .and_then(|rest| rest.split('$').next());
        let algorithm = match kind {
            Some("argon2id") => Algorithm::Argon2id,
            Some("argon2i") => Algorithm::Argon2i,
            Some("argon2d") => Algorithm::Argon2d,
            _ => return Err(Unusable::UnknownKind),
        };
        if stored.len() > MAX_STORED_LENGTH {
            return Err(Unusable::Malformed);
        }
        let hash = PasswordHash::new(stored).map_err(|_| Unusable::Malformed)?;
        // No string is known that the parser takes and would write differently. Should a later one take some, they are
        // refused here: only one spelling is right.
        if hash.to_string() != stored {
            return Err(Unusable::Malformed);
        }
        let version =
            Version::try_from(hash.version.unwrap_or(0x10)).map_err(|_| Unusable::Malformed)?;
        let (Some(salt), Some(output)) = (hash.salt, hash.hash) else {
            return Err(Unusable::Malformed);
        };
        if output.len() < MIN_OUTPUT_LENGTH {
            return Err(Unusable::Malformed);
        }
        let [memory_kib, iterations, parallelism] =
            numbers(&hash.params).ok_or(Unusable::Malformed)?;
        let cost =
            Cost::new(memory_kib, iterations, parallelism).map_err(|_| Unusable::Malformed)?;
        if !bounds.allow(cost) {
            return Err(Unusable::BeyondBounds);
        }
        Ok(Self {
            algorithm,
            version,
            cost,
            salt,
            output,
        })
    }

    /// An argon2id hash of the current version.
    pub(crate) fn new(cost: Cost, salt: Salt, output: Output) -> Self {
        Self {
            algorithm: Algorithm::Argon2id,
            version: Version::V0x13,
            cost,
            salt,
            output,
        }
    }

    /// Whether it is what a new hash would be: algorithm, version, cost, lengths of salt and output. Any other is
    /// replaced at the next login.
    pub fn is_current(&self, current: Cost) -> bool {
        self.algorithm == Algorithm::Argon2id
            && self.version == Version::V0x13
            && self.cost == current
            && self.salt.len() == SALT_LENGTH
            && self.output.len() == OUTPUT_LENGTH
    }

    /// The blocks of 1 KiB that a run touches.
    pub(crate) fn blocks(&self) -> usize {
        self.cost.blocks()
    }

    /// Runs argon2 over `input` with the parameters and the salt of this hash, in memory that exists: at least
    /// [`blocks`](Self::blocks).
    pub(crate) fn run(
        &self,
        input: &[u8],
        memory: &mut [Block],
    ) -> Result<Zeroizing<Vec<u8>>, argon2::Error> {
        let params = self.cost.params(self.output.len())?;
        let argon2 = Argon2::new(self.algorithm, self.version, params);
        let mut output = Zeroizing::new(vec![0; self.output.len()]);
        argon2.hash_password_into_with_memory(input, &self.salt, &mut output, memory)?;
        Ok(output)
    }

    pub(crate) fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// Compares in constant time.
    pub(crate) fn matches(&self, output: &[u8]) -> bool {
        // `Output` compares its bytes in constant time, and says so in its documentation.
        Output::new(output).is_ok_and(|output| output == self.output)
    }

    /// The string that is stored. Only hashes of the current version are ever written.
    pub(crate) fn to_secret_string(&self) -> SecretString {
        SecretString::from(format!(
            "${ARGON2ID_IDENT}$v=19${}${}${}",
            self.cost, self.salt, self.output
        ))
    }
}

impl fmt::Debug for Argon2Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Argon2Hash([REDACTED])")
    }
}

/// Whether a stored string should be replaced at the next login: it isn't a hash of the current kind and cost.
pub fn needs_rehash(stored: &str, current: Cost) -> bool {
    // The current cost is within any bounds, so no foreign memory need be allowed to recognise it.
    !Argon2Hash::parse(stored, &Bounds::new(current, 0)).is_ok_and(|hash| hash.is_current(current))
}

/// The values of `m`, `t` and `p`, if these are all that there is, in this order.
fn numbers(params: &ParamsString) -> Option<[u32; 3]> {
    let mut numbers = [0; 3];
    let mut given = params.iter();
    for (number, name) in numbers.iter_mut().zip(["m", "t", "p"]) {
        let (given_name, value) = given.next()?;
        if given_name.as_str() != name {
            return None;
        }
        *number = value.decimal().ok()?;
    }
    given.next().is_none().then_some(numbers)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use secrecy::ExposeSecret as _;

    use super::*;

    const SALT: &str = "c2FsdHNhbHRzYWx0c2FsdA";
    const OUTPUT: &str = "OdFYA7BxGSdTRBBwiJ5KZBUWydkzbjB1JVmWwfypW80";

    fn current() -> Cost {
        Cost::new(19_456, 2, 1).unwrap()
    }

    fn parse(stored: &str) -> Result<Argon2Hash, Unusable> {
        Argon2Hash::parse(stored, &Bounds::new(current(), 128 * 1024))
    }

    fn with_cost(cost: &str) -> String {
        format!("$argon2id$v=19${cost}${SALT}${OUTPUT}")
    }

    #[test]
    fn what_is_written_is_read_again_and_is_current() {
        let hash = parse(&with_cost("m=19456,t=2,p=1")).unwrap();
        assert!(hash.is_current(current()));
        assert_eq!(
            hash.to_secret_string().expose_secret(),
            with_cost("m=19456,t=2,p=1")
        );
        assert_eq!(hash.blocks(), 19_456);
        assert_eq!(hash.salt(), b"saltsaltsaltsalt");
        assert_eq!(format!("{hash:?}"), "Argon2Hash([REDACTED])");
    }

    #[rstest]
    #[case::kind(
        "$argon2i$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$OdFYA7BxGSdTRBBwiJ5KZBUWydkzbjB1JVmWwfypW80"
    )]
    #[case::version(
        "$argon2id$v=16$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$OdFYA7BxGSdTRBBwiJ5KZBUWydkzbjB1JVmWwfypW80"
    )]
    #[case::no_version(
        "$argon2id$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$OdFYA7BxGSdTRBBwiJ5KZBUWydkzbjB1JVmWwfypW80"
    )]
    #[case::memory(
        "$argon2id$v=19$m=19457,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$OdFYA7BxGSdTRBBwiJ5KZBUWydkzbjB1JVmWwfypW80"
    )]
    #[case::passes(
        "$argon2id$v=19$m=19456,t=3,p=1$c2FsdHNhbHRzYWx0c2FsdA$OdFYA7BxGSdTRBBwiJ5KZBUWydkzbjB1JVmWwfypW80"
    )]
    #[case::lanes(
        "$argon2id$v=19$m=19456,t=2,p=2$c2FsdHNhbHRzYWx0c2FsdA$OdFYA7BxGSdTRBBwiJ5KZBUWydkzbjB1JVmWwfypW80"
    )]
    #[case::salt(
        "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$OdFYA7BxGSdTRBBwiJ5KZBUWydkzbjB1JVmWwfypW80"
    )]
    #[case::output(
        "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$jpM9B4CZWLoga8C30Swn4IC2yQluyZ7D"
    )]
    fn usable_but_not_current(#[case] stored: &str) {
        assert!(!parse(stored).unwrap().is_current(current()));
        assert!(needs_rehash(stored, current()));
    }

    #[test]
    fn needs_rehash_says_no_to_the_current_cost_only() {
        assert!(!needs_rehash(&with_cost("m=19456,t=2,p=1"), current()));
        assert!(needs_rehash(
            &with_cost("m=19456,t=2,p=1"),
            Cost::new(8, 1, 1).unwrap()
        ));
        assert!(needs_rehash(
            "$2b$10$abcdefghijklmnopqrstuuYt8ylmQkXb5z3KQ2yFcUu8pX8H2DEFG",
            current()
        ));
        // Above every fixed bound, but it is what is configured.
        let costly = Cost::new(4 * 1024 * 1024, 100, 100).unwrap();
        assert!(!needs_rehash(&with_cost("m=4194304,t=100,p=100"), costly));
    }

    #[rstest]
    #[case::memory("m=131073,t=1,p=1", Err(Unusable::BeyondBounds))]
    #[case::all_of_memory("m=131072,t=1,p=1", Ok(131_072))]
    #[case::four_gibibytes("m=4194304,t=1,p=1", Err(Unusable::BeyondBounds))]
    #[case::most_memory("m=4294967295,t=4294967295,p=1", Err(Unusable::BeyondBounds))]
    #[case::work("m=131072,t=33,p=1", Err(Unusable::BeyondBounds))]
    #[case::all_of_work("m=131072,t=32,p=1", Ok(131_072))]
    #[case::a_million_passes("m=8,t=1000000,p=1", Err(Unusable::BeyondBounds))]
    #[case::lanes("m=131072,t=1,p=65", Err(Unusable::BeyondBounds))]
    #[case::all_of_lanes("m=131072,t=1,p=64", Ok(131_072))]
    fn bounds(#[case] cost: &str, #[case] blocks: Result<usize, Unusable>) {
        assert_eq!(parse(&with_cost(cost)).map(|hash| hash.blocks()), blocks);
    }

    #[test]
    fn without_memory_for_others_the_current_cost_is_the_bound() {
        let bounds = Bounds::new(current(), 0);
        assert!(Argon2Hash::parse(&with_cost("m=19456,t=1,p=1"), &bounds).is_ok());
        let beyond = Argon2Hash::parse(&with_cost("m=19457,t=1,p=1"), &bounds);
        assert_eq!(beyond.unwrap_err(), Unusable::BeyondBounds);
    }

    #[rstest]
    #[case::order("t=2,m=19456,p=1")]
    #[case::missing("m=19456,t=2")]
    #[case::twice("m=19456,m=8,t=2,p=1")]
    #[case::unknown("m=19456,t=2,p=1,x=1")]
    #[case::data("m=19456,t=2,p=1,data=c2FsdA")]
    #[case::leading_zero("m=019456,t=2,p=1")]
    #[case::sign("m=+19456,t=2,p=1")]
    #[case::negative("m=-1,t=2,p=1")]
    #[case::hexadecimal("m=0x10,t=2,p=1")]
    #[case::space("m=19456, t=2,p=1")]
    #[case::too_large("m=4294967296,t=2,p=1")]
    #[case::too_little_memory("m=15,t=2,p=2")]
    #[case::no_memory("m=0,t=2,p=1")]
    #[case::no_pass("m=19456,t=0,p=1")]
    #[case::no_lane("m=19456,t=2,p=0")]
    #[case::most_lanes("m=4294967295,t=2,p=4294967295")]
    #[case::empty_value("m=,t=2,p=1")]
    #[case::empty("")]
    fn malformed_cost(#[case] cost: &str) {
        assert_eq!(parse(&with_cost(cost)).unwrap_err(), Unusable::Malformed);
    }

    #[test]
    fn malformed_rest() {
        let good = with_cost("m=19456,t=2,p=1");
        for bad in [
            format!("{good}$"),
            format!("{good}$AAAA"),
            format!("{good}="),
            format!("{good} "),
            format!("{good}\n"),
            format!("{good}\0"),
            good.replace("v=19", "v=18"),
            good.replace("v=19", "v=0"),
            good.replace("v=19", "v=019"),
            good.replace("v=19", "version=19"),
            good.replace("$v=19", "$v=19$v=19"),
            good.replace(SALT, ""),
            // Seven bytes.
            good.replace(SALT, "c2FsdHNhbA"),
            good.replace(SALT, "c2FsdHNhbHRzYWx0c2FsdA=="),
            // The same bytes with other bits that are dropped.
            good.replace(SALT, "c2FsdHNhbHRzYWx0c2FsdB"),
            good.replace(SALT, "c2FsdHNhbHRz_Wx0c2FsdA"),
            good.replace(SALT, &"c2Fs".repeat(17)),
            good.replace(OUTPUT, ""),
            // Fifteen bytes: too little to tell passwords apart.
            good.replace(OUTPUT, "OdFYA7BxGSdTRBBwiJ5K"),
            good.replace(OUTPUT, &OUTPUT.repeat(3)),
            good.replace(&format!("${OUTPUT}"), ""),
            good.replace(OUTPUT, &"A".repeat(1 << 20)),
        ] {
            assert_eq!(
                parse(&bad).unwrap_err(),
                Unusable::Malformed,
                "{}",
                &bad[..bad.len().min(200)]
            );
        }
    }

    #[rstest]
    #[case("")]
    #[case("$")]
    #[case("argon2id")]
    #[case("$argon2")]
    #[case(
        "$argon2x$v=19$m=8,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$OdFYA7BxGSdTRBBwiJ5KZBUWydkzbjB1JVmWwfypW80"
    )]
    #[case(
        "$ARGON2ID$v=19$m=8,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$OdFYA7BxGSdTRBBwiJ5KZBUWydkzbjB1JVmWwfypW80"
    )]
    #[case("$2b$31$abcdefghijklmnopqrstuuYt8ylmQkXb5z3KQ2yFcUu8pX8H2DEFG")]
    #[case("{SSHA}c2FsdHNhbHRzYWx0c2FsdA==")]
    #[case("correct horse battery staple")]
    fn unknown_kind(#[case] stored: &str) {
        assert_eq!(parse(stored).unwrap_err(), Unusable::UnknownKind);
    }

    proptest! {
        #[test]
        fn any_string_is_survived(stored: String) {
            prop_assert!(parse(&stored).is_err());
        }

        #[test]
        fn what_is_accepted_is_spelled_in_one_way(
            stored in "\\$argon2(id|i|d)(\\$v=(16|19))?\\$m=[0-9]{1,6},t=[0-9]{1,3},p=[0-9]{1,2}\\$[a-zA-Z0-9+/]{8,64}\\$[a-zA-Z0-9+/]{20,88}",
        ) {
            if let Ok(hash) = parse(&stored) {
                prop_assert!(hash.blocks() <= 131_072);
                let written = hash.to_secret_string();
                // Writing is only for hashes of the current kind and version; the rest of the string is as it was.
                let tail = |text: &str| text.rsplit('$').take(3).map(str::to_owned).collect::<Vec<_>>();
                prop_assert_eq!(tail(written.expose_secret()), tail(&stored));
            }
        }

        #[test]
        fn a_damaged_hash_never_panics(place in 0_usize..97, wrong in "\\PC") {
            let mut stored = with_cost("m=19456,t=2,p=1");
            prop_assume!(place < stored.len());
            stored.replace_range(place..=place, &wrong);
            let _judged = parse(&stored);
        }
    }
}
