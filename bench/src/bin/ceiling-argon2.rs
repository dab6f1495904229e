//! The ceiling of logins: threads that do nothing but hash, each in memory that it keeps. Prints hashes per second.

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use argon2::Block;
use clap::Parser;
use claviger_bench::hasher;

#[derive(Parser)]
struct Arguments {
    /// How many threads hash.
    #[arg(long)]
    threads: usize,
    /// For how long.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let length = Duration::from_secs_f64(arguments.seconds);
    let threads: Vec<_> = (0..arguments.threads)
        .map(|_| thread::spawn(move || hash_for(length)))
        .collect();
    let mut rate = 0.0;
    for thread in threads {
        rate += thread.join().map_err(|_| "a thread panicked")??;
    }
    println!("per_second {rate:.2}");
    Ok(())
}

/// Hashes for this long. Returns hashes per second.
fn hash_for(length: Duration) -> argon2::Result<f64> {
    let hasher = hasher()?;
    let mut memory = vec![Block::default(); hasher.params().block_count()];
    let mut hash = [0; 32];
    let mut hash_one = || -> argon2::Result<()> {
        hasher.hash_password_into_with_memory(
            b"a-password-for-measuring",
            &[7; 16],
            &mut hash,
            &mut memory,
        )?;
        black_box(&hash);
        Ok(())
    };
    // The first one pays for the pages of the memory.
    hash_one()?;
    let start = Instant::now();
    let mut count = 0_u32;
    while start.elapsed() < length {
        hash_one()?;
        count += 1;
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}
