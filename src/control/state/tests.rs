//! Histories of observations, reloads and orders, with a clock that the tests set and probes that never run.

use super::*;
use crate::config;
use crate::control::last_good::{self, Keeper};
use crate::control::{Applied, Order, Refusal, RefusalCode, Store, What, Wish};
use crate::health::Observation;
use crate::probe;
use arc_swap::ArcSwap;
use std::time::Instant;
use tokio::sync::mpsc;

/// Two pools with a service each; targets are numbered a1 a2 b1 b2 c1.
pub(super) const CONFIG: &str = r#"
        [zones."example.com"]
        file = "zone"
        [regions.a]
        [regions.b]
        [checks.tcp]
        type = "tcp"
        port = 80
        interval = "1s"
        timeout = "500ms"
        fall = 2
        rise = 2
        hold-down = "30s"
        [pools.one]
        check = "tcp"
        [pools.one.instances]
        a1 = { region = "a", address = "192.0.2.1" }
        a2 = { region = "a", address = "192.0.2.2" }
        b1 = { region = "b", address = "192.0.2.3" }
        b2 = { region = "b", address = "192.0.2.4" }
        [pools.two]
        check = "tcp"
        [pools.two.instances]
        c1 = { region = "a", address = "192.0.2.5" }
        [services."one.example.com"]
        pool = "one"
        steer = "failover"
        order = ["a", "b"]
        [services."two.example.com"]
        pool = "two"
        steer = "failover"
    "#;

pub(super) fn world(config: &str) -> World {
    let folder = tempfile::tempdir().expect("a folder");
    let zone = "@ 60 IN SOA ns hm 1 1 1 1 1\n@ 60 IN NS ns\nns 60 IN A 192.0.2.53\n";
    std::fs::write(folder.path().join("zone"), zone).expect("written");
    let path = folder.path().join("waymark.toml");
    std::fs::write(&path, config).expect("written");
    let loaded = config::load(&path);
    World::compile(loaded.configuration.unwrap_or_else(|| panic!("{:?}", loaded.problems)))
}

pub(super) struct Fixture {
    pub(super) state: State,
    pub(super) published: Published,
    pub(super) now: u64,
}

impl Fixture {
    pub(super) fn new() -> Fixture {
        Fixture::of(CONFIG)
    }

    pub(super) fn of(config: &str) -> Fixture {
        let (sink, _) = mpsc::channel(1);
        // It probes nothing: reports are made here.
        let prober = Prober::start(&[], &[], probe::Settings::default(), sink);
        let published: Published = Arc::new(ArcSwap::default());
        let state = State::new(Arc::new(world(config)), Arc::clone(&published), prober, Tick(0));
        Fixture { state, published, now: 0 }
    }

    pub(super) fn reload(&mut self, config: &str, now: Tick) {
        let next = Succession::new(Arc::new(world(config)), &self.state.world);
        self.state.reload(next, now);
    }

    /// Observes `outcomes` of a target, a second apart, publishing after each.
    pub(super) fn observe(&mut self, target: u32, outcomes: &str) {
        for letter in outcomes.chars() {
            self.report(target, if letter == 'p' { Outcome::Pass } else { Outcome::Fail });
            if self.state.is_dirty() {
                self.state.publish(Tick(self.now));
            }
        }
    }

    /// Observes a target a second later, without publishing.
    fn report(&mut self, target: u32, outcome: Outcome) {
        let took = Duration::ZERO;
        let observation = Observation { target: TargetId(target), outcome, reason: "x".into(), took };
        self.now += 1000;
        self.state.report(Report::new(&observation).0, Tick(self.now));
    }

    /// Gives an order and waits until it is served or refused.
    pub(super) async fn order(&mut self, what: What, force: bool) -> Result<Applied, Refusal> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.state.apply(Change::Override(Box::new(Order { what, force, reply })), Tick(self.now));
        while self.state.is_saving() {
            let written = self.state.written().await;
            self.state.end_saving(written, Tick(self.now));
        }
        if self.state.is_dirty() {
            self.state.publish(Tick(self.now));
        }
        answer.await.expect("an answer")
    }

    /// `drain region/a`, `weight 50% instance/one/a1`; by force.
    pub(super) async fn force(&mut self, text: &str) -> Applied {
        self.order(what(text), true).await.expect("no refusal")
    }

    /// `a2 b2/2`: eligible of all, of service one, by region.
    fn standing(&self) -> String {
        let snapshot = self.published.load();
        let standings = snapshot.standings.get(LayoutId(0));
        let shown = (0..2).filter_map(|group| {
            let v4 = standings.get(group, Family::V4)?;
            let mark = if v4.available { "+" } else { "-" };
            Some(format!("{}/{}{mark}", v4.eligible.entries.len(), v4.allowed.entries.len()))
        });
        shown.collect::<Vec<_>>().join(" ")
    }
}

pub(super) fn what(text: &str) -> What {
    let (action, target) = text.rsplit_once(' ').expect("an action and a target");
    let action = action.parse().expect("an action");
    What::Set(Wish { target: target.into(), action, who: "alice".into(), why: String::new(), lasts: None })
}

#[tokio::test]
async fn overrides_are_judged_beside_verdicts() {
    let mut fixture = Fixture::new();
    for target in 0..5 {
        fixture.observe(target, "p");
    }
    for (order, expected) in [
        ("drain instance/one/a1", "1/1+ 2/2+"),
        ("enable instance/one/a1", "2/2+ 2/2+"),
        ("drain region/a", "0/0- 2/2+"),
        ("force-up instance/one/a1", "0/0- 2/2+"),
        ("enable region/a", "2/2+ 2/2+"),
        ("weight 0% instance/one/b*", "2/2+ 0/0-"),
        ("enable instance/one/b*", "2/2+ 2/2+"),
        ("force-down pool/one", "0/0- 0/0-"),
        ("enable pool/one", "2/2+ 2/2+"),
    ] {
        fixture.force(order).await;
        assert_eq!(fixture.standing(), expected, "{order}");
    }
    // What checks say changes meanwhile and afterwards as ever.
    fixture.observe(0, "ff");
    fixture.observe(1, "ff");
    assert_eq!(fixture.standing(), "1/2+ 2/2+", "a1 is forced up");
    fixture.force("enable instance/one/a1").await;
    assert_eq!(fixture.standing(), "0/2- 2/2+");
    assert!(fixture.state.desk.overrides().is_empty());
}

#[tokio::test]
async fn the_last_one_is_kept_without_force() {
    let mut fixture = Fixture::new();
    for target in 0..5 {
        fixture.observe(target, "p");
    }
    let services = |refused: Result<Applied, Refusal>| refused.expect_err("refused").services;
    assert_eq!(services(fixture.order(what("drain region/a"), false).await), ["two.example.com"]);
    assert_eq!(services(fixture.order(what("drain region/*"), false).await), ["one.example.com", "two.example.com"]);
    assert_eq!(services(fixture.order(what("force-down instance/two/c1"), false).await), ["two.example.com"]);
    assert_eq!(fixture.standing(), "2/2+ 2/2+");
    fixture.order(what("drain instance/one/a*"), false).await.expect("region b is left");
    assert_eq!(fixture.standing(), "0/0- 2/2+");
    assert_eq!(services(fixture.order(what("drain pool/one"), false).await), ["one.example.com"]);
    fixture.order(what("force-up instance/one/b1"), false).await.expect("takes nothing");
    fixture.observe(2, "ff");
    fixture.observe(3, "ff");
    assert_eq!(fixture.standing(), "0/0- 1/2+");
    let end = || What::End { target: "instance/one/b1".into(), who: "bob".into() };
    assert_eq!(services(fixture.order(end(), false).await), ["one.example.com"]);
    assert_eq!(fixture.force("drain pool/one").await.lost, ["one.example.com"]);
    // Nothing is left to be lost.
    fixture.order(what("drain region/b"), false).await.expect("nothing to lose");
}

#[tokio::test]
async fn overrides_stay_over_a_reload_and_meet_new_names() {
    let mut fixture = Fixture::new();
    for target in 0..5 {
        fixture.observe(target, "p");
    }
    fixture.force("drain instance/one/a*").await;
    let more = CONFIG.replace("b1 = {", "a0 = { region = \"b\", address = \"192.0.2.9\" }\n        b1 = {");
    fixture.reload(&more, Tick(10_000));
    assert_eq!(fixture.standing(), "0/0- 2/2+");
    // Without checks nothing is watched, and overrides are judged all the same.
    let unchecked = CONFIG.replace("check = \"tcp\"\n", "");
    fixture.reload(&unchecked, Tick(20_000));
    assert_eq!(fixture.standing(), "0/0- 2/2+");
    fixture.force("enable instance/one/a1").await;
    assert_eq!(fixture.standing(), "1/1+ 2/2+");
    fixture.force("enable instance/one/a*").await;
    assert_eq!(fixture.standing(), "2/2+ 2/2+");
}

#[tokio::test]
async fn an_override_ends_by_itself() {
    let mut fixture = Fixture::new();
    for target in 0..5 {
        fixture.observe(target, "p");
    }
    let What::Set(wish) = what("drain instance/one/a*") else { panic!("an override") };
    let lasts = Some(Duration::from_secs(60));
    fixture.order(What::Set(Wish { lasts, ..wish }), false).await.expect("no refusal");
    let (began, ends) = (Tick(fixture.now), Tick(fixture.now + 60_000));
    assert_eq!(fixture.state.overrides_due(began), lasts);
    fixture.state.end_overrides(Tick(ends.0 - 1));
    assert!(!fixture.state.is_dirty());
    fixture.state.end_overrides(ends);
    fixture.state.publish(ends);
    assert_eq!(fixture.standing(), "2/2+ 2/2+");
    assert_eq!(fixture.state.overrides_due(ends), None);
}

#[tokio::test]
async fn orders_wait_for_one_another() {
    let mut fixture = Fixture::new();
    for target in 0..5 {
        fixture.observe(target, "p");
    }
    let mut answers = Vec::new();
    for _ in 0..100 {
        for text in ["drain instance/one/a1", "enable instance/one/a1", "drain instance/one/a2"] {
            let (reply, answer) = tokio::sync::oneshot::channel();
            let order = Order { what: what(text), force: false, reply };
            fixture.state.apply(Change::Override(Box::new(order)), Tick(fixture.now));
            answers.push(answer);
        }
    }
    while fixture.state.is_saving() {
        let written = fixture.state.written().await;
        fixture.state.end_saving(written, Tick(fixture.now));
    }
    fixture.state.publish(Tick(fixture.now));
    let mut kept = 0;
    for answer in answers {
        match answer.await.expect("an answer") {
            Ok(_) => kept += 1,
            Err(refusal) => assert_eq!(refusal.code, RefusalCode::Busy),
        }
    }
    // One is written and 64 wait; the last of them enables a1, a2 stays drained.
    assert_eq!((kept, fixture.standing().as_str()), (65, "1/1+ 2/2+"));
}

#[tokio::test]
async fn a_freeze_holds_verdicts_and_nothing_else() {
    let mut fixture = Fixture::new();
    for target in 0..4 {
        fixture.observe(target, "p");
    }
    fixture.force("freeze all").await;
    fixture.observe(4, "p");
    assert_eq!(fixture.state.verdicts[4], Verdict::Up, "what was never known is learned");
    fixture.observe(0, "ff");
    fixture.observe(1, "ff");
    assert_eq!(fixture.standing(), "2/2+ 2/2+");
    fixture.force("drain instance/one/b1").await;
    assert_eq!(fixture.standing(), "2/2+ 1/1+");
    // Another order of pools gives every target another number.
    let (head, tail) = CONFIG.split_once("[pools.one]").expect("a pool");
    let (one, rest) = tail.split_once("[pools.two]").expect("a pool");
    let (two, services) = rest.split_once("[services.").expect("services");
    fixture.reload(&format!("{head}[pools.two]{two}[pools.one]{one}[services.{services}"), Tick(100_000));
    assert_eq!(fixture.standing(), "2/2+ 1/1+");
    let status = fixture.state.status(Tick(100_000));
    let address = &status.pools[1].instances[0].addresses[0];
    assert_eq!((&*address.verdict, &*address.checks[0].verdict), ("up", "down"));
    assert!(status.pools[1].instances[0].frozen);
    let resume = What::Resume { target: "all".into(), who: "bob".into() };
    fixture.order(resume, false).await.expect("something to resume");
    assert_eq!(fixture.standing(), "0/2- 1/1+");
}

#[tokio::test]
async fn a_service_stays_overridden_alone_over_a_reload() {
    /// How many instances a service may hand out, by name.
    fn allowed(fixture: &Fixture, name: &str) -> usize {
        let snapshot = fixture.published.load();
        let services = (0..).map(ServiceId).zip(&snapshot.steering.services);
        let (id, steered) = services.into_iter().find(|(_, one)| &*one.configured.name == name).expect("the service");
        let standings = snapshot.standings.of(id, steered.layout);
        (0..2).filter_map(|at| standings.get(at, Family::V4)).map(|one| one.allowed.entries.len()).sum()
    }
    let also = "[services.\"also.example.com\"]\npool = \"one\"\nsteer = \"failover\"\norder = [\"a\", \"b\"]\n";
    let config = format!("{CONFIG}\n{also}");
    let mut fixture = Fixture::of(&config);
    (0..5).for_each(|target| fixture.observe(target, "p"));
    let lost = fixture.force("drain service/one.example.com").await.lost;
    assert_eq!(lost, ["one.example.com"], "the other one over its layout loses nothing");
    let both = |fixture: &Fixture| (allowed(fixture, "one.example.com"), allowed(fixture, "also.example.com"));
    assert_eq!(both(&fixture), (0, 4));
    fixture.observe(0, "ff");
    assert_eq!((both(&fixture), fixture.standing().as_str()), ((0, 4), "1/2+ 2/2+"));
    // Services in another order have other numbers.
    let (head, services) = CONFIG.split_once("[services.").expect("services");
    fixture.reload(&format!("{head}{also}[services.{services}"), Tick(fixture.now));
    assert_eq!(both(&fixture), (0, 4));
    fixture.force("enable service/*").await;
    assert_eq!(both(&fixture), (4, 4));
    assert!(!fixture.published.load().standings.has_apart());
}

/// A service hands out what stands in for it with its own TTL, also along a chain.
#[tokio::test]
async fn caches_hold_what_stood_in_for_others() {
    let standing_in = "[services.\"three.example.com\"]\npool = \"two\"\nttl = \"60s\"\n\
        when-all-down = { service = \"one.example.com\" }\n\
        [services.\"four.example.com\"]\npool = \"two\"\nttl = \"300s\"\n\
        when-all-down = { service = \"three.example.com\" }\n";
    let mut fixture = Fixture::of(&format!("{CONFIG}\n{standing_in}"));
    (0..5).for_each(|target| fixture.observe(target, "p"));
    for (order, hold_s) in [
        ("drain instance/one/a1", Some(300)),
        ("drain service/one.example.com", Some(300)),
        ("drain service/four.example.com", Some(300)),
        ("drain service/two.example.com", Some(30)),
        ("drain pool/later", None),
        ("force-up region/a", None),
    ] {
        assert_eq!(fixture.force(order).await.caches_hold_s, hold_s, "{order}");
    }
}

#[tokio::test]
async fn what_is_not_written_is_not_done() {
    let mut fixture = Fixture::new();
    for target in 0..5 {
        fixture.observe(target, "p");
    }
    let folder = tempfile::tempdir().expect("a folder");
    fixture.state.keep_overrides(Store::new(folder.path()), Tick(0));
    fixture.force("drain instance/one/a1").await;
    std::fs::create_dir(folder.path().join("overrides.new")).expect("in the way");
    let refusal = fixture.order(what("drain instance/one/a2"), false).await.expect_err("refused");
    assert_eq!(refusal.code, RefusalCode::NotStored);
    assert_eq!(fixture.standing(), "1/1+ 2/2+");
    assert_eq!(Store::new(folder.path()).load().overrides.len(), 1);
    let nothing = fixture.order(what("drain region/mars"), false).await.expect_err("refused");
    assert_eq!(nothing.code, RefusalCode::NotFound);
}

#[tokio::test]
async fn a_reload_forgets_what_the_world_before_touched() {
    let mut fixture = Fixture::new();
    for target in 0..5 {
        fixture.report(target, Outcome::Pass);
    }
    let (one, _) = CONFIG.split_once("[services.\"two").expect("a service");
    fixture.reload(one, Tick(10_000));
    assert_eq!(fixture.standing(), "2/2+ 2/2+");
}

#[tokio::test]
async fn a_verdict_changes_what_it_touches_alone() {
    let mut fixture = Fixture::new();
    for target in 0..5 {
        assert!(!*fixture.state.settled().borrow());
        fixture.observe(target, "p");
    }
    assert!(*fixture.state.settled().borrow());
    assert_eq!(fixture.standing(), "2/2+ 2/2+");
    let before = fixture.published.load_full();
    fixture.observe(4, "ff");
    let after = fixture.published.load_full();
    assert_eq!(after.serial, before.serial + 1);
    let is_shared = |layout| {
        let entries = |snapshot: &crate::snapshot::Snapshot| {
            let selection = snapshot.standings.get(LayoutId(layout)).get(0, Family::V4).cloned();
            selection.expect("IPv4").eligible.entries
        };
        Arc::ptr_eq(&entries(&before), &entries(&after))
    };
    assert_eq!((is_shared(0), is_shared(1)), (true, false));
    assert_eq!(fixture.state.failing_open, [[false; 2], [true, false]]);
    fixture.observe(4, "pp");
    assert_eq!(fixture.state.failing_open, [[false; 2]; 2]);
}

#[tokio::test]
async fn the_first_round_ends_when_it_is_published() {
    let mut fixture = Fixture::new();
    (0..5).for_each(|target| fixture.report(target, Outcome::Pass));
    assert!(!*fixture.state.settled().borrow());
    fixture.state.publish(Tick(fixture.now));
    assert!(*fixture.state.settled().borrow());
    assert_eq!(fixture.standing(), "2/2+ 2/2+");
}

#[tokio::test]
async fn unknown_targets_count_after_the_grace_and_new_ones_get_their_own() {
    let mut fixture = Fixture::new();
    fixture.observe(0, "p");
    assert_eq!(fixture.standing(), "1/2+ 0/2-");
    assert_eq!(fixture.state.grace_left(Tick(1000)), Some(Duration::from_secs(4)));
    fixture.state.end_grace();
    fixture.state.publish(Tick(6000));
    assert_eq!(fixture.standing(), "1/2+ 0/2-");
    for target in 1..5 {
        fixture.observe(target, "p");
    }
    let many = CONFIG.replace("[pools.two]", "a3 = { region = \"a\", address = \"192.0.2.6\" }\na4 = { region = \"a\", address = \"192.0.2.7\" }\na5 = { region = \"a\", address = \"192.0.2.8\" }\n[pools.two]");
    fixture.reload(&many, Tick(10_000));
    // Two of five are up, which is below the threshold, but three have not been looked at yet.
    assert_eq!(fixture.standing(), "2/5+ 2/2+");
    fixture.state.end_grace();
    fixture.state.publish(Tick(20_000));
    assert_eq!(fixture.standing(), "2/5- 2/2+");
}

#[tokio::test]
async fn a_reload_keeps_health_and_times_of_loss() {
    let mut fixture = Fixture::new();
    for target in 0..5 {
        fixture.observe(target, "p");
    }
    fixture.observe(0, "ff");
    fixture.observe(1, "ff");
    let lost_at = |fixture: &Fixture| {
        let snapshot = fixture.published.load();
        snapshot.standings.get(LayoutId(0)).get(0, Family::V4).and_then(|selection| selection.lost_at)
    };
    let lost = lost_at(&fixture);
    assert!(lost.is_some());
    fixture.observe(4, "ff");
    let failing_open = |fixture: &Fixture| {
        let services = fixture.state.world.steering.services.iter().zip(&fixture.state.failing_open);
        services.map(|(service, flags)| (service.configured.name.to_string(), flags[0])).collect::<Vec<_>>()
    };
    let expected = [("one.example.com".into(), false), ("two.example.com".into(), true)];
    assert_eq!(failing_open(&fixture), expected);
    // Another order of pools gives every target another number.
    let (head, tail) = CONFIG.split_once("[pools.one]").expect("a pool");
    let (one, rest) = tail.split_once("[pools.two]").expect("a pool");
    let (two, services) = rest.split_once("[services.").expect("services");
    let turned = format!("{head}[pools.two]{two}[pools.one]{one}[services.{services}");
    fixture.reload(&turned, Tick(100_000));
    assert_eq!(fixture.standing(), "0/2- 2/2+");
    assert_eq!(lost_at(&fixture), lost);
    assert_eq!(failing_open(&fixture), expected);
    assert!(*fixture.state.settled().borrow());
    let status = fixture.state.status(Tick(100_000));
    assert_eq!((status.reloads, status.pools[0].name.as_str()), (1, "two"));
    assert_eq!(status.pools[1].instances[0].addresses[0].verdict, "down");
}

#[tokio::test]
async fn a_region_returns_as_time_passes() {
    let mut fixture = Fixture::new();
    for target in 0..4 {
        fixture.observe(target, "p");
    }
    assert_eq!(fixture.state.judging_due(Tick(fixture.now)), None);
    fixture.observe(0, "ff");
    fixture.observe(1, "ff");
    fixture.observe(0, "pp");
    let share = |fixture: &Fixture| {
        let snapshot = fixture.published.load();
        let share = snapshot.standings.get(LayoutId(0)).get(0, Family::V4).map_or(0, |selection| selection.share);
        f64::from(share) / f64::from(u32::MAX)
    };
    let returned = fixture.now;
    assert_eq!((share(&fixture), fixture.standing().as_str()), (0.0, "1/2+ 2/2+"));
    let mut shares = Vec::new();
    while let Some(due) = fixture.state.judging_due(Tick(fixture.now)) {
        fixture.now += due.as_millis() as u64;
        fixture.state.take_due(Tick(fixture.now));
        fixture.state.publish(Tick(fixture.now));
        shares.push(share(&fixture));
    }
    assert_eq!(fixture.now - returned, 150_000, "30 s of waiting, 2 min of growing");
    assert!(shares.is_sorted() && shares.len() > 20 && shares.last() == Some(&1.0), "{shares:?}");
}

#[tokio::test]
async fn an_instance_ramps_as_time_passes() {
    let mut fixture = Fixture::new();
    fixture.reload(&CONFIG.replace("[pools.one]\n", "[pools.one]\nramp = \"60s\"\n"), Tick(0));
    for target in 0..5 {
        fixture.observe(target, "p");
    }
    let weights = |fixture: &Fixture| -> Vec<u32> {
        let snapshot = fixture.published.load();
        let selection = snapshot.standings.get(LayoutId(0)).get(0, Family::V4).expect("IPv4");
        selection.eligible.entries.iter().map(|entry| entry.weight).collect()
    };
    assert_eq!((weights(&fixture), fixture.state.judging_due(Tick(fixture.now))), (vec![1, 1], None), "at the start");
    fixture.observe(0, "ffpp");
    let recovered = fixture.now;
    let mut grown = vec![weights(&fixture)];
    while let Some(due) = fixture.state.judging_due(Tick(fixture.now)) {
        fixture.now += due.as_millis() as u64;
        fixture.state.take_due(Tick(fixture.now));
        fixture.state.publish(Tick(fixture.now));
        grown.push(weights(&fixture));
    }
    assert_eq!(fixture.now - recovered, 60_000);
    let expected = (4..40).map(|parts| vec![parts, 40]).chain([vec![1, 1]]);
    assert_eq!(grown, expected.collect::<Vec<_>>());
    // Alone it has all of its weight at once.
    fixture.observe(0, "ff");
    fixture.observe(1, "ffpp");
    assert_eq!(weights(&fixture), [1]);
}

/// [`CONFIG`] with a check of its own for pool two.
fn another_check() -> String {
    let other = CONFIG.replace(
        "[pools.two]\n        check = \"tcp\"",
        "[checks.other]\n        extends = \"tcp\"\n        [pools.two]\n        check = \"other\"",
    );
    assert_ne!(other, CONFIG);
    other
}

/// [`another_check`], whose instance passed, as all others did.
fn with_another_check() -> Fixture {
    let mut fixture = Fixture::new();
    let other = another_check();
    fixture.reload(&other, Tick(0));
    for target in 0..5 {
        fixture.observe(target, "p");
    }
    fixture
}

impl Fixture {
    /// Time passes until nothing is due.
    fn settle_down(&mut self) {
        while let Some(due) = self.state.judging_due(Tick(self.now)) {
            self.now += due.as_millis() as u64;
            self.state.take_due(Tick(self.now));
            self.state.publish(Tick(self.now));
        }
    }
}

#[tokio::test]
async fn a_check_that_fails_everywhere_is_held_then_applied() {
    let mut fixture = with_another_check();
    for target in [0, 1, 2, 3, 0, 1, 2, 3] {
        fixture.observe(target, "f");
        assert_eq!(fixture.standing(), "2/2+ 2/2+");
    }
    let suspects = fixture.state.status(Tick(fixture.now)).suspects;
    assert_eq!((suspects.len(), suspects[0].check.as_str()), (1, "tcp"));
    fixture.settle_down();
    assert_eq!(fixture.standing(), "0/2- 0/2-");
    assert!(fixture.state.status(Tick(fixture.now)).suspects.is_empty());
}

#[tokio::test]
async fn what_passes_in_time_was_never_down() {
    let mut fixture = with_another_check();
    for target in [0, 1, 2, 3, 0, 1, 2] {
        fixture.observe(target, "f");
    }
    for target in [0, 1, 3] {
        fixture.observe(target, "p");
    }
    fixture.settle_down();
    assert_eq!(fixture.standing(), "2/2+ 1/2+");
}

#[tokio::test]
async fn an_edit_mends_a_check_that_is_held() {
    let mut fixture = with_another_check();
    for target in [0, 1, 2, 3, 0, 1, 2, 3] {
        fixture.observe(target, "f");
    }
    let other = another_check();
    fixture.reload(&other.replace("timeout = \"500ms\"", "timeout = \"400ms\""), Tick(fixture.now));
    fixture.settle_down();
    assert_eq!(fixture.standing(), "2/2+ 2/2+");
    // It is believed again: evidence counts as ever.
    fixture.observe(0, "ff");
    fixture.observe(2, "p");
    assert_eq!(fixture.standing(), "1/2+ 2/2+");
}

#[tokio::test]
async fn a_fall_waits_for_a_look_at_the_others() {
    // What others did before it began to fail says nothing.
    let mut fixture = with_another_check();
    fixture.observe(0, "ff");
    assert_eq!(fixture.standing(), "2/2+ 2/2+");
    fixture.observe(1, "f");
    assert_eq!(fixture.standing(), "2/2+ 2/2+");
    fixture.observe(3, "p");
    assert_eq!(fixture.standing(), "1/2+ 2/2+");
    // With a pass between it need not wait.
    fixture.observe(1, "ppf");
    fixture.observe(3, "p");
    fixture.observe(1, "f");
    assert_eq!(fixture.standing(), "0/2- 2/2+");
    // Nobody can be looked at: it waits no longer than a probe takes.
    let mut fixture = with_another_check();
    fixture.observe(0, "ff");
    let left = fixture.state.judging_due(Tick(fixture.now)).expect("something is due");
    assert_eq!(left, Duration::from_millis(1500));
    fixture.settle_down();
    assert_eq!(fixture.standing(), "1/2+ 2/2+");
}

#[tokio::test]
async fn another_port_mends_a_check_that_is_held() {
    let mut fixture = with_another_check();
    for target in [0, 1, 2, 3, 0, 1, 2, 3] {
        fixture.observe(target, "f");
    }
    // What would be read at a start is what is served.
    assert!(fixture.state.memories(Tick(fixture.now)).iter().all(|memory| memory.verdict == Verdict::Up));
    fixture.reload(&another_check().replace("port = 80", "port = 81"), Tick(fixture.now));
    assert_eq!(fixture.standing(), "2/2+ 2/2+");
    fixture.settle_down();
    assert_eq!(fixture.standing(), "2/2+ 2/2+");
}

#[tokio::test]
async fn a_fall_that_waits_over_a_reload_never_was() {
    let mut fixture = with_another_check();
    fixture.observe(0, "ff");
    fixture.reload(&another_check(), Tick(fixture.now));
    fixture.settle_down();
    assert_eq!(fixture.standing(), "2/2+ 2/2+");
    fixture.observe(0, "ff");
    fixture.observe(3, "p");
    assert_eq!(fixture.standing(), "1/2+ 2/2+");
}

#[tokio::test]
async fn an_order_that_is_written_during_a_reload_means_the_same_names() {
    let mut fixture = Fixture::new();
    (0..5).for_each(|target| fixture.observe(target, "p"));
    let (reply, answer) = tokio::sync::oneshot::channel();
    let order = Order { what: what("drain instance/two/c1"), force: true, reply };
    fixture.state.apply(Change::Override(Box::new(order)), Tick(fixture.now));
    assert!(fixture.state.is_saving());
    // Its number is another now, and what was the last of all is one too many.
    let fewer = CONFIG.replace("a2 = { region = \"a\", address = \"192.0.2.2\" }", "");
    fixture.reload(&fewer, Tick(fixture.now));
    while fixture.state.is_saving() {
        let written = fixture.state.written().await;
        fixture.state.end_saving(written, Tick(fixture.now));
    }
    fixture.state.publish(Tick(fixture.now));
    assert_eq!(answer.await.expect("an answer").expect("no refusal").instances, ["two/c1"]);
    assert_eq!(fixture.standing(), "1/1+ 2/2+");
    let two = fixture.published.load().standings.get(LayoutId(1)).get(0, Family::V4).map(|v4| v4.allowed.is_empty());
    assert_eq!(two, Some(true));
}

#[tokio::test]
async fn failures_that_say_nothing_of_the_check_are_believed() {
    // One region alone; everything, other checks too; fewer than three targets left.
    for (failing, standing) in [
        ("0f 1f 0f 2p 1f", "0/2- 2/2+"),
        ("4f 0f 1f 2f 3f 0f 1f 2f 3f", "0/2- 0/2-"),
        ("0f 0f 3p 1f 1f 3p 2f 3f 2f 3f", "0/2- 0/2-"),
    ] {
        let mut fixture = with_another_check();
        for one in failing.split(' ') {
            let (target, outcome) = one.split_at(1);
            fixture.observe(target.parse().expect("a number"), outcome);
        }
        assert_eq!(fixture.standing(), standing, "{failing}");
    }
}

#[tokio::test]
async fn several_hold_downs_end_where_a_region_needs_them() {
    let mut fixture = Fixture::new();
    for target in 0..5 {
        fixture.observe(target, "p");
    }
    for target in [0, 1] {
        fixture.observe(target, "ffpp");
    }
    // Both of region a fall again and pass again: one alone is below the threshold of 100 %.
    let strict = CONFIG.replace("[pools.one]\n", "[pools.one]\nup-threshold = \"100%\"\n");
    fixture.reload(&strict, Tick(fixture.now));
    fixture.observe(0, "ff");
    fixture.observe(1, "ff");
    fixture.observe(0, "pp");
    assert_eq!(fixture.standing(), "0/2- 2/2+");
    fixture.observe(1, "pp");
    fixture.observe(0, "p");
    assert_eq!(fixture.standing(), "2/2+ 2/2+");
}

#[tokio::test]
async fn a_target_that_is_checked_in_another_way_keeps_its_verdict() {
    for (from, to) in [
        ("port = 80", "port = 81"),
        (
            "[checks.tcp]\n        type = \"tcp\"",
            "[checks.tcp]\n        type = \"http\"\n        host = \"www.example.com\"",
        ),
        ("interval = \"1s\"", "interval = \"2s\""),
    ] {
        let mut fixture = Fixture::new();
        for target in 0..5 {
            fixture.observe(target, "p");
        }
        fixture.observe(1, "ff");
        let edited = CONFIG.replace(from, to);
        assert_ne!(edited, CONFIG, "{from}");
        fixture.reload(&edited, Tick(10_000));
        assert_eq!(fixture.standing(), "1/2+ 2/2+", "{to}");
    }
}

#[tokio::test]
async fn a_hold_down_ends_where_a_region_needs_it() {
    let mut fixture = Fixture::new();
    for target in 0..5 {
        fixture.observe(target, "p");
    }
    // The second time down is held; one of two is enough for the region, so nobody lifts it.
    fixture.observe(0, "ffppff");
    fixture.observe(0, "pp");
    assert_eq!(fixture.standing(), "1/2+ 2/2+");
    // Without the other one the region is lost, and the held one comes back with its next pass.
    fixture.observe(1, "ff");
    assert_eq!(fixture.standing(), "0/2- 2/2+");
    fixture.observe(0, "p");
    assert_eq!(fixture.standing(), "1/2+ 2/2+");
}

#[tokio::test]
async fn what_an_earlier_process_knew_is_gone_by() {
    let mut before = Fixture::new();
    for target in 0..5 {
        before.observe(target, "p");
    }
    for target in [0, 1, 4] {
        before.observe(target, "ff");
    }
    let (then, later) = (before.now, 1_700_000_000_000);
    let memories: Vec<_> = before.state.machines.iter().map(|machine| machine.memory(Tick(then))).collect();
    let clock = Clock { now: Tick(then), unix_ms: later - 60_000 };
    let file = LastGood::of(&before.state.world, &memories, &before.state.standings, clock);

    let mut fixture = Fixture::new();
    fixture.now = 1_000_000;
    let clock = Clock { now: Tick(fixture.now), unix_ms: later };
    assert_eq!(fixture.state.recall(&file, clock), 5);
    fixture.state.publish(Tick(fixture.now));
    assert_eq!(fixture.standing(), "0/2- 2/2+");
    assert_eq!(fixture.state.failing_open, [[false; 2], [true, false]]);
    let lost_at = |fixture: &Fixture, layout| {
        let snapshot = fixture.published.load();
        snapshot.standings.get(LayoutId(layout)).get(0, Family::V4).and_then(|selection| selection.lost_at)
    };
    for layout in [0, 1] {
        let ago = Tick(then).since(lost_at(&before, layout).expect("lost")) + Duration::from_secs(60);
        assert_eq!(lost_at(&fixture, layout), Some(Tick(fixture.now).minus(ago)));
    }
    assert!(!*fixture.state.settled().borrow());
    assert_eq!(fixture.state.memory_left(Tick(fixture.now)), Some(MEMORY_PATIENCE));
    fixture.state.go_by_memory();
    assert!(*fixture.state.settled().borrow());
    assert_eq!(fixture.state.memory_left(Tick(fixture.now)), None);
    fixture.observe(0, "p");
    fixture.observe(2, "f");
    assert_eq!(fixture.standing(), "0/2- 2/2+");
    fixture.observe(0, "p");
    fixture.observe(2, "f");
    assert_eq!(fixture.standing(), "1/2+ 1/2+");
}

/// Verdicts change all the time: about ten writes a second, and the last change is there soon.
#[tokio::test]
async fn health_is_written_now_and_then() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = last_good::path(folder.path());
    let mut fixture = Fixture::new();
    let keeper = Keeper::start(path.clone(), None).expect("a thread");
    let notes = keeper.notes();
    fixture.state.keep_health(Arc::clone(&notes), Tick(0));
    let began = Instant::now();
    let mut writes = BTreeSet::new();
    while began.elapsed() < Duration::from_secs(1) {
        fixture.observe(0, "ffpp");
        writes.extend(notes.written_ms());
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!((1..=13).contains(&writes.len()), "{writes:?}");
    fixture.observe(4, "p");
    keeper.finish(Duration::from_secs(60));
    let file = LastGood::read(&path, crate::time::unix_milliseconds()).expect("good").expect("a file");
    assert_eq!(Fixture::new().state.recall(&file, Clock { now: Tick(0), unix_ms: file.written_ms() }), 2);
}
