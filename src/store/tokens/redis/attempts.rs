//! Attempts to log in, counted where all instances see them. Names and addresses stand in no key, only hashes of them.

use sha2::{Digest as _, Sha256};

use super::link::Connection;
use super::{RedisTokens, hex, no_installation};
use crate::config::Rate;
use crate::store::StoreError;
use crate::store::attempts::{
    FIRST_DELAY, Grant, KNOWN_FOR, LONGEST_DELAY, MOST_KNOWN, PAUSE, ROW, Refusal, Reserved, Step,
};

/// Bytes of a hash that stand in a key.
const HASH_BYTES: usize = 16;

impl RedisTokens {
    /// See [`Attempts::ask`](crate::store::attempts::Attempts::ask).
    pub(in crate::store) async fn ask_failures(
        &self,
        network: &str,
        rate: Rate,
    ) -> Result<Option<Refusal>, StoreError> {
        let (wait, first) = self.failures("ask", network, rate).await?;
        Ok((wait > 0).then(|| Refusal::new(wait, first == 1)))
    }

    /// See [`Attempts::count`](crate::store::attempts::Attempts::count).
    pub(in crate::store) async fn count_failure(
        &self,
        network: &str,
        rate: Rate,
    ) -> Result<(), StoreError> {
        self.failures("count", network, rate).await.map(|_| ())
    }

    async fn failures(
        &self,
        step: &str,
        network: &str,
        rate: Rate,
    ) -> Result<(u64, u8), StoreError> {
        let installation = self.installation().ok_or_else(no_installation)?;
        let network = hashed(&installation, "network", network);
        let key = format!("claviger:{installation}:{{a:{network}}}:failures");
        let (limit, window) = (rate.count.to_string(), rate.per.as_millis().to_string());
        let script = &self.0.scripts.failures;
        let run = async |connection: &mut Connection| {
            script
                .run(connection, &[&key], &[step, &limit, &window])
                .await
        };
        self.0.link.write(run).await
    }

    /// See [`Attempts::reserve`](crate::store::attempts::Attempts::reserve).
    pub(in crate::store) async fn reserve_attempt(
        &self,
        account: &str,
        network: &str,
        rate: Rate,
        ahead: u64,
    ) -> Result<Reserved, StoreError> {
        let installation = self.installation().ok_or_else(no_installation)?;
        let network = hashed(&installation, "network", network);
        let arguments = arguments("reserve", &network, rate, None, ahead);
        let (granted, wait, flag, bucket): (u8, u64, u8, String) =
            self.attempt(&installation, account, &arguments).await?;
        Ok(if granted == 1 {
            Reserved::Granted(Grant {
                bucket,
                of_the_day: flag == 1,
            })
        } else {
            Reserved::Refused(Refusal::new(wait, flag == 1))
        })
    }

    /// See [`Attempts::settle`](crate::store::attempts::Attempts::settle).
    pub(in crate::store) async fn settle_attempt(
        &self,
        account: &str,
        network: &str,
        rate: Rate,
        grant: &Grant,
        step: Step,
        ahead: u64,
    ) -> Result<(), StoreError> {
        let installation = self.installation().ok_or_else(no_installation)?;
        let network = hashed(&installation, "network", network);
        let arguments = arguments(step.name(), &network, rate, Some(grant), ahead);
        let _: u8 = self.attempt(&installation, account, &arguments).await?;
        Ok(())
    }

    /// See [`Attempts::unlock`](crate::store::attempts::Attempts::unlock).
    pub(in crate::store) async fn unlock_account(&self, account: &str) -> Result<bool, StoreError> {
        let installation = self.installation().ok_or_else(no_installation)?;
        let rate = Rate {
            count: 1,
            per: PAUSE,
        };
        let arguments = arguments("unlock", "", rate, None, 0);
        let unlocked: u8 = self.attempt(&installation, account, &arguments).await?;
        Ok(unlocked == 1)
    }

    async fn attempt<T: redis::FromRedisValue>(
        &self,
        installation: &str,
        account: &str,
        arguments: &[String],
    ) -> Result<T, StoreError> {
        let account = hashed(installation, "account", account);
        let key = format!("claviger:{installation}:{{n:{account}}}:attempts");
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let script = &self.0.scripts.attempts;
        let run =
            async |connection: &mut Connection| script.run(connection, &[&key], &arguments).await;
        self.0.link.write(run).await
    }
}

fn arguments(
    step: &str,
    network: &str,
    rate: Rate,
    grant: Option<&Grant>,
    ahead: u64,
) -> Vec<String> {
    vec![
        step.to_owned(),
        network.to_owned(),
        rate.count.to_string(),
        rate.per.as_millis().to_string(),
        ROW.to_string(),
        PAUSE.as_millis().to_string(),
        KNOWN_FOR.as_millis().to_string(),
        MOST_KNOWN.to_string(),
        FIRST_DELAY.as_millis().to_string(),
        LONGEST_DELAY.as_millis().to_string(),
        grant.map_or_else(String::new, |grant| grant.bucket.clone()),
        grant
            .map_or("", |grant| if grant.of_the_day { "1" } else { "" })
            .to_owned(),
        ahead.to_string(),
    ]
}

/// What stands in a key for a name or an address: nobody who sees the keys reads them, and another installation has others.
fn hashed(installation: &str, kind: &str, value: &str) -> String {
    let digest = Sha256::digest(format!("{installation}\n{kind}\n{value}"));
    let mut text = hex(&digest);
    text.truncate(2 * HASH_BYTES);
    text
}
