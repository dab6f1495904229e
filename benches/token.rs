//! What it costs to make and to read a token. Both happen for each request, so they should be far below a microsecond's
//! worth of network.

use std::hint::black_box;

use claviger::auth::token::Token;
use criterion::{Criterion, criterion_group, criterion_main};

fn token(criterion: &mut Criterion) {
    let token = Token::generate();
    let mistyped = token.expose().replace("clv_", "clw_");
    let mut wrong = token.expose().to_owned();
    let last = if wrong.pop() == Some('0') { '1' } else { '0' };
    wrong.push(last);
    let mut group = criterion.benchmark_group("token");
    group.bench_function("generate", |bencher| bencher.iter(Token::generate));
    group.bench_function("parse", |bencher| {
        bencher.iter(|| Token::parse(black_box(token.expose())).is_ok());
    });
    group.bench_function("parse, wrong prefix", |bencher| {
        bencher.iter(|| Token::parse(black_box(&mistyped)).is_ok());
    });
    group.bench_function("parse, wrong checksum", |bencher| {
        bencher.iter(|| Token::parse(black_box(&wrong)).is_ok());
    });
    group.finish();
}

criterion_group!(benches, token);
criterion_main!(benches);
