//! Wall time of `answer::respond` by kind of answer. `cargo bench`; figures inform, they gate nothing: that is for
//! `benches/instructions.rs`.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

use support::fixture::{Fixture, KINDS};
use support::query::Random;

mod support;

fn kinds(criterion: &mut Criterion) {
    for kind in &KINDS {
        let mut fixture = Fixture::new(kind);
        let (mut query, mut random) = (kind.query(), Random(1));
        criterion.bench_function(kind.name, |bencher| {
            bencher.iter(|| fixture.answer(kind, black_box(query.vary(&mut random))));
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).measurement_time(Duration::from_secs(1))
        .warm_up_time(Duration::from_millis(300));
    targets = kinds
}
criterion_main!(benches);
