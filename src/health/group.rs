//! When a group of instances is able to serve (SPEC 3.1, 3.2): verdicts of targets in, one [`Standing`] for each address
//! family out. Which group serves a client is decided by `steering`.

use std::net::IpAddr;
use std::ops::Range;

use super::load::{self, Remark, Reported};
use super::presence::{ALL, Presence, Return, Seen};
use super::{Administrative, Operator, Said, Verdict};
use crate::fleet::{
    Address, Cname, Family, Fleet, Instance, InstanceId, PoolId, RegionId, TargetId, greatest_common_divisor,
};
use crate::time::Tick;

/// What one of a pool's share counts for, so that parts of it are whole numbers.
const SHARE_UNIT: u64 = 1 << 16;

/// Most of its configured weight that an instance has, in percent, so that sums of weights stay in range.
const MOST_PERCENT: u32 = 4_000;

/// Of a group's verdicts: nothing speaks against any of them.
pub const STEADY: u16 = u16::MAX;

/// An instance that may be picked, with those of its addresses that may be handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which instance.
    pub instance: InstanceId,
    /// Effective weight, above 0.
    pub weight: u32,
    /// Load ÷ capacity in percent, where some service goes by it and enough is reported; else 0 of all.
    pub load: u16,
    /// Whether it is answered with a CNAME; its addresses are then those that were found behind it.
    pub is_cname: bool,
    /// Whether it counts for both families, whatever addresses it has, as its group may be answered with a CNAME: were the
    /// families apart, one that has addresses in one of them alone would send all clients of the other to the CNAME, and
    /// whoever follows that keeps it for both.
    pub is_whole: bool,
    /// Where its addresses are in [`Candidates::addresses`]; never empty, unless it counts for both families.
    pub addresses: Range<u32>,
}

/// Instances that may be picked, in configured order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidates {
    /// Each with a weight above 0, and an address unless it counts for both families.
    pub list: Vec<Candidate>,
    /// Addresses of all of them.
    pub addresses: Vec<IpAddr>,
    /// Sum of their weights.
    pub weight: u64,
}

/// What a group can do for one address family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Instances that are up (or have no check).
    pub eligible: Candidates,
    /// Instances never observed well enough to say.
    pub unknown: Candidates,
    /// All that the operator allows, whatever the checks say; used when nothing works.
    pub allowed: Candidates,
    /// What the group weighs among others that are as good for a client (SPEC 4.4): the sum of the weights of all that the
    /// operator allows, of whatever family and health, in 1/100 of the configured ones.
    pub weight: u64,
    /// Whether the agents of all that the operator allows drain them: these are what is allowed then, for no agent is to
    /// leave clients without any answer.
    pub is_drained: bool,
    /// What is to be said of some instances beside their health.
    pub remarks: Vec<(InstanceId, Remark)>,
    /// How much of it works: what is eligible, and of what that is a part (SPEC 3.3).
    pub works: (u64, u64),
    /// Whether enough is eligible (SPEC 3.2).
    pub available: bool,
    /// Seconds until observations can change the verdicts that it goes by, at the earliest, less than [`STEADY`]; or that.
    pub steady_for: u16,
    /// When the last eligible one was lost; `None` while there is one, and when there never was.
    pub lost_at: Option<Tick>,
    /// How much it is in use; what it was before, until [`Standing::settle`].
    pub presence: Presence,
    /// The share of clients that stay, be it ever so present, of 2^32; all but where it spills.
    pub stays: u32,
    /// The share of clients that it serves, of 2^32.
    pub share: u32,
    /// The same of those whose order begins with it: fewer where the operator gave it a weight (SPEC 8.2).
    pub begins: u32,
    /// When it is to be judged again though nothing else changes; `None` = never.
    pub due: Option<Tick>,
}

/// What is so around a group.
#[derive(Clone, Copy, Debug)]
pub struct Others {
    /// Whether another group of its layout and family serves.
    pub serve: bool,
    /// Whether another could: it is available, and not latched out.
    pub replace: bool,
    /// Whether verdicts of its own are held, so that what is seen of it is not what is so.
    pub frozen: bool,
    /// Of the clients whose order begins with it, the part that begins there by the operator's will, in percent.
    pub begin_percent: u16,
}

/// When a group is able to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// With this part of its weight, in 1/10 000 (SPEC 3.2).
    Threshold(u16),
    /// With any; then of its clients those stay that its weight suffices for, times this, in thousandths, and no more than
    /// its reported load has room for (SPEC 3.4).
    Spill(u32),
}

/// What a judgement must know of the last one of the same group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before {
    /// Whether there was an eligible instance.
    pub had_eligible: bool,
    /// When the last one was lost.
    pub lost_at: Option<Tick>,
    /// How much it was in use.
    pub presence: Presence,
}

/// What health must know to judge a group.
#[derive(Clone, Copy, Debug)]
pub struct Judge<'a> {
    /// Instances and their targets.
    pub fleet: &'a Fleet,
    /// By [`TargetId`].
    pub verdicts: &'a [Verdict],
    /// By [`InstanceId`]: taken for down whatever its checks say; may be shorter.
    pub down: &'a [bool],
    /// By [`TargetId`]: what [`Standing::steady_for`] is made of; may be empty.
    pub steady_for: &'a [u16],
    /// What the operator says.
    pub operator: Operator<'a>,
    /// By [`InstanceId`]: what instances and their agents report; may be shorter.
    pub reported: &'a [Reported],
    /// What is thought of an instance whose CNAME leads to no address that is known.
    pub unresolved: Verdict,
    /// Whether `startup-grace` is over, so that unknown instances count as allowed.
    pub grace_over: bool,
    /// The current time.
    pub now: Tick,
}

/// The instances of a group.
#[derive(Clone, Copy, Debug)]
pub struct Members<'a> {
    /// In configured order.
    pub instances: &'a [InstanceId],
    /// The regions it stands for; empty = any.
    pub regions: &'a [RegionId],
    /// Where several pools share its clients: which, and the share of each (SPEC 5.5).
    pub shares: &'a [(PoolId, u32)],
    /// Whether no CNAME can be answered: then instances have the addresses behind it, and are as all others.
    pub no_cname: bool,
}

impl Candidates {
    /// Adds an instance with its addresses; one without is left out.
    pub fn push(&mut self, instance: InstanceId, weight: u32, addresses: impl Iterator<Item = IpAddr>) {
        let plain = Candidate { instance, weight, load: 0, is_cname: false, is_whole: false, addresses: 0..0 };
        self.add(plain, addresses);
    }

    /// Adds a candidate with other addresses; one without is left out, unless it counts for both families.
    pub fn add(&mut self, candidate: Candidate, addresses: impl Iterator<Item = IpAddr>) {
        let start = self.addresses.len() as u32;
        self.addresses.extend(addresses);
        let end = self.addresses.len() as u32;
        if start < end || candidate.is_whole {
            self.weight += u64::from(candidate.weight);
            self.list.push(Candidate { addresses: start..end, ..candidate });
        }
    }

    /// Those that may stay.
    #[must_use]
    pub fn only(&self, stays: impl Fn(InstanceId) -> bool) -> Candidates {
        let mut left = Candidates::default();
        for one in self.list.iter().filter(|one| stays(one.instance)) {
            left.add(Candidate { load: 0, ..one.clone() }, self.addresses_of(one).iter().copied());
        }
        left
    }

    /// The addresses of one of its candidates.
    #[must_use]
    pub fn addresses_of(&self, candidate: &Candidate) -> &[IpAddr] {
        &self.addresses[candidate.addresses.start as usize..candidate.addresses.end as usize]
    }

    /// Whether there is nothing to pick.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl Judge<'_> {
    /// The standing of `members` in `family`; `before` is what was known of the same group.
    #[must_use]
    pub fn judge(&self, members: Members<'_>, family: Family, rule: Rule, before: Option<Before>) -> Standing {
        let mut standing = Standing::default();
        let scale = self.scale(members);
        let is_whole = !members.no_cname && members.instances.iter().any(|&id| self.fleet.cname(id).is_some());
        for &id in members.instances {
            self.sort_in(&mut standing, id, family, members, scale, is_whole);
        }
        let (eligible, counted) = match members.shares {
            [] => self.eligible_and_counted(standing.parts()),
            shares => self.by_shares(&standing, shares),
        };
        let (enough, stays) = match rule {
            Rule::Threshold(least) => (eligible * 10_000 >= u64::from(least) * counted, ALL),
            Rule::Spill(thousandths) => {
                let by_weight = share_of(eligible * u64::from(thousandths), counted * 1000);
                (true, by_weight.min(self.share_by_load(&standing.eligible)))
            }
        };
        if standing.allowed.is_empty() && !standing.remarks.is_empty() {
            self.allow_drained(&mut standing, members, family, is_whole);
        }
        standing.works = match members.shares {
            [] => (standing.eligible.weight, standing.allowed.weight),
            _ => (eligible, counted),
        };
        standing.available = !standing.eligible.is_empty() && enough;
        standing.stays = stays;
        standing.lost_at = match before {
            _ if !standing.eligible.is_empty() => None,
            Some(before) if !before.had_eligible => before.lost_at,
            Some(_) => Some(self.now),
            None => None,
        };
        standing.presence = before.map_or(Presence::New, |before| before.presence);
        standing
    }

    /// What is eligible, of what counts.
    fn eligible_and_counted(&self, [eligible, unknown, allowed]: [u64; 3]) -> (u64, u64) {
        (eligible, if self.grace_over { allowed } else { allowed - unknown })
    }

    /// The same where pools share the clients: each stands for its share, whatever its instances weigh. A pool that has
    /// none that counts leaves its share to the others.
    fn by_shares(&self, standing: &Standing, shares: &[(PoolId, u32)]) -> (u64, u64) {
        shares.iter().fold((0, 0), |(all_eligible, all_counted), &(pool, share)| {
            let of_pool = |candidates: &Candidates| {
                let own = candidates.list.iter().filter(|one| self.fleet.instance(one.instance).pool == pool);
                own.map(|one| u64::from(one.weight)).sum::<u64>()
            };
            let parts = [&standing.eligible, &standing.unknown, &standing.allowed].map(of_pool);
            match (self.eligible_and_counted(parts), u64::from(share) * SHARE_UNIT) {
                ((_, 0), _) => (all_eligible, all_counted),
                ((eligible, counted), whole) => {
                    let part = u128::from(whole) * u128::from(eligible) / u128::from(counted);
                    (all_eligible + part as u64, all_counted + whole)
                }
            }
        })
    }

    /// In what unit effective weights are whole numbers, in 1/100 of the configured ones: 100 while nobody's weight is
    /// overridden. It is as great as can be, so that cycles of round-robin stay short.
    fn scale(&self, members: Members<'_>) -> u32 {
        if self.operator.is_silent() && self.reported.is_empty() {
            return 100;
        }
        let percent = |id: InstanceId| {
            let said = self.operator.of(id, self.fleet.instance(id), members.regions);
            self.percent(said, load::of(self.reported, id))
        };
        if members.instances.iter().all(|&id| percent(id) == 100) {
            return 100;
        }
        let parts = |&id: &InstanceId| self.fleet.instance(id).weight * u32::from(percent(id));
        members.instances.iter().map(parts).fold(0, greatest_common_divisor).max(1)
    }

    fn sort_in(
        &self,
        standing: &mut Standing,
        id: InstanceId,
        family: Family,
        members: Members<'_>,
        scale: u32,
        is_whole: bool,
    ) {
        let instance = self.fleet.instance(id);
        let said = self.operator.of(id, instance, members.regions);
        let weight = instance.weight * u32::from(self.percent(said, load::of(self.reported, id))) / scale;
        if self.is_drained_by_agent(id, instance, said) {
            standing.remarks.push((id, Remark::DrainedByAgent));
        }
        if weight == 0 || said.state.removes() {
            return;
        }
        standing.weight += u64::from(weight) * u64::from(scale);
        let cname = self.fleet.cname(id).filter(|_| !members.no_cname);
        let is_cname = cname.is_some();
        let candidate = Candidate { instance: id, weight, load: 0, is_cname, is_whole, addresses: 0..0 };
        let addresses = || instance.addresses.iter().filter(|address| Family::of(address.ip) == family);
        let with = |verdict| addresses().filter(move |&a| self.verdict(a) == verdict).map(|address| address.ip);
        standing.allowed.add(candidate.clone(), addresses().map(|address| address.ip));
        if said.state == Administrative::ForcedUp {
            return standing.eligible.add(candidate, addresses().map(|address| address.ip));
        }
        if self.down.get(id.0 as usize).is_some_and(|&down| down) {
            return;
        }
        // Whoever is sent to a name may have either family there.
        let has_none = is_whole && addresses().next().is_none();
        let counts = |address: &&Address| is_cname || has_none || Family::of(address.ip) == family;
        let targets = instance.addresses.iter().filter(counts).flat_map(|address| &address.targets);
        let lasting = targets.filter_map(|target| self.steady_for.get(target.0 as usize));
        standing.steady_for = lasting.fold(standing.steady_for, |least, &one| least.min(one));
        let verdict = match cname {
            Some(cname) => self.verdict_behind(cname, instance),
            None => self.best(instance.addresses.iter().filter(counts)),
        };
        match verdict {
            Verdict::Up => standing.eligible.add(candidate, with(Verdict::Up)),
            Verdict::Unknown => standing.unknown.add(candidate, with(Verdict::Unknown)),
            Verdict::Down => {}
        }
    }

    /// Of the addresses that were found behind a CNAME one that passes suffices.
    fn verdict_behind(&self, cname: &Cname, instance: &Instance) -> Verdict {
        match () {
            () if cname.probes.is_empty() => Verdict::Up,
            () if instance.addresses.is_empty() => self.unresolved,
            () => self.best(instance.addresses.iter()),
        }
    }

    /// The best that is said of addresses.
    fn best<'i>(&self, addresses: impl Iterator<Item = &'i Address> + Clone) -> Verdict {
        let has = |verdict| addresses.clone().any(|address| self.verdict(address) == verdict);
        match () {
            () if has(Verdict::Up) => Verdict::Up,
            () if has(Verdict::Unknown) => Verdict::Unknown,
            () => Verdict::Down,
        }
    }

    /// The effective weight of an instance, in percent of the configured one. Whoever is forced up is so whatever its
    /// agent says; an agent alone takes nobody's last part.
    fn percent(&self, said: Said, reported: Reported) -> u16 {
        if said.state == Administrative::ForcedUp || reported.percent == 100 {
            return said.percent;
        }
        match u32::from(said.percent) * u32::from(reported.percent) {
            0 => 0,
            product => (product / 100).clamp(1, MOST_PERCENT) as u16,
        }
    }

    /// Whether it is its agent alone that keeps an instance from getting clients.
    fn is_drained_by_agent(&self, id: InstanceId, instance: &Instance, said: Said) -> bool {
        let may = instance.weight > 0 && said.percent > 0 && said.state == Administrative::Enabled;
        may && load::of(self.reported, id).percent == 0
    }

    /// Agents drain all that the operator allows: it is what is left when nothing works.
    fn allow_drained(&self, standing: &mut Standing, members: Members<'_>, family: Family, is_whole: bool) {
        for &(id, _) in &standing.remarks {
            let instance = self.fleet.instance(id);
            let percent = u32::from(self.operator.of(id, instance, members.regions).percent).min(MOST_PERCENT);
            let addresses = instance.addresses.iter().map(|address| address.ip).filter(|ip| Family::of(*ip) == family);
            let is_cname = !members.no_cname && self.fleet.cname(id).is_some();
            let weight = instance.weight * percent;
            let candidate = Candidate { instance: id, weight, load: 0, is_cname, is_whole, addresses: 0..0 };
            standing.allowed.add(candidate, addresses);
        }
        standing.is_drained = !standing.allowed.is_empty();
    }

    /// The share of clients that those instances have room for which report their load: what they may take at most ÷ what
    /// they have.
    fn share_by_load(&self, eligible: &Candidates) -> u32 {
        let (mut room, mut has) = (0.0, 0.0);
        for one in &eligible.list {
            // Of a new reporter as little is known as of a silent one.
            let Some(ratio) = load::of(self.reported, one.instance).counts() else { continue };
            let limits = self.fleet.limits(one.instance);
            room += limits.max_load.unwrap_or(limits.capacity);
            has += limits.capacity * f64::from(ratio) / f64::from(load::WHOLE);
        }
        if has <= room { ALL } else { (room / has * f64::from(ALL)) as u32 }
    }

    /// What all checks of an address say together: all must pass.
    #[must_use]
    pub fn verdict(&self, address: &Address) -> Verdict {
        let of = |target: &TargetId| self.verdicts.get(target.0 as usize).copied().unwrap_or_default();
        Judge::all(address.targets.iter().map(of))
    }

    /// All must pass; none = up.
    #[must_use]
    pub fn all(verdicts: impl Iterator<Item = Verdict>) -> Verdict {
        verdicts.fold(Verdict::Up, |all, one| match (all, one) {
            (Verdict::Down, _) | (_, Verdict::Down) => Verdict::Down,
            (Verdict::Unknown, _) | (_, Verdict::Unknown) => Verdict::Unknown,
            (Verdict::Up, Verdict::Up) => Verdict::Up,
        })
    }
}

/// `part` ÷ `whole` of 2^32, at most [`ALL`].
fn share_of(part: u64, whole: u64) -> u32 {
    u32::try_from((u128::from(part) << 32) / u128::from(whole.max(1))).unwrap_or(ALL)
}

impl Default for Standing {
    fn default() -> Standing {
        Standing {
            eligible: Candidates::default(),
            unknown: Candidates::default(),
            allowed: Candidates::default(),
            weight: 0,
            works: (0, 0),
            is_drained: false,
            remarks: Vec::new(),
            available: false,
            steady_for: STEADY,
            lost_at: None,
            presence: Presence::default(),
            stays: 0,
            share: 0,
            begins: 0,
            due: None,
        }
    }
}

impl Standing {
    /// Weights of what is eligible, unknown, allowed.
    fn parts(&self) -> [u64; 3] {
        [&self.eligible, &self.unknown, &self.allowed].map(|candidates| candidates.weight)
    }

    /// What the next judgement must know of this one.
    #[must_use]
    pub fn before(&self) -> Before {
        Before { had_eligible: !self.eligible.is_empty(), lost_at: self.lost_at, presence: self.presence }
    }

    /// Whether it serves clients as far as it is known without the others.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.available && self.presence.serves()
    }

    /// Whether another group that is lost has this one to be replaced by.
    #[must_use]
    pub fn replaces(&self) -> bool {
        self.available && self.presence != Presence::Latched
    }

    /// Says how much it is in use now, among the others of its layout and family.
    pub fn settle(&mut self, others: Others, how: Return, now: Tick) {
        // Without any that is allowed, it was the operator who took it out, or those who run it.
        let was_taken_out = self.allowed.is_empty() || self.is_drained;
        let unknown = !self.unknown.is_empty() || was_taken_out;
        let latches = others.replace && !others.frozen && !was_taken_out;
        let seen = Seen { available: self.available, unknown, alone: !others.serve, latches };
        self.presence = self.presence.next(seen, how, now);
        self.share = self.presence.share(how, now).min(self.stays);
        self.begins = match others.begin_percent {
            100.. => self.share,
            percent => self.share.min(share_of(percent.into(), 100)),
        };
        self.due = [self.due, self.presence.due(how, now)].into_iter().flatten().min();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{Instance, PoolId};
    use crate::health::Said;

    /// Instances with one IPv4 address and one target each, of these weights.
    fn fleet(weights: &[u32]) -> Fleet {
        let instance = |(index, weight): (usize, &u32)| Instance {
            name: format!("i{index}").as_str().into(),
            pool: PoolId(0),
            regions: [RegionId(0)].into(),
            weight: *weight,
            addresses: [Address {
                ip: IpAddr::from([192, 0, 2, index as u8]),
                targets: [TargetId(index as u32)].into(),
            }]
            .into(),
        };
        Fleet { instances: weights.iter().enumerate().map(instance).collect(), ..Fleet::default() }
    }

    fn judge(weights: &[u32], verdicts: &str, grace_over: bool, threshold: u16, before: Option<&Standing>) -> Standing {
        judge_by(weights, verdicts, grace_over, Rule::Threshold(threshold), before)
    }

    fn judge_by(weights: &[u32], verdicts: &str, grace_over: bool, rule: Rule, before: Option<&Standing>) -> Standing {
        let verdicts: Vec<Verdict> = verdicts
            .chars()
            .map(|verdict| match verdict {
                'u' => Verdict::Up,
                'd' => Verdict::Down,
                _ => Verdict::Unknown,
            })
            .collect();
        let fleet = fleet(weights);
        let members: Vec<InstanceId> = (0..weights.len() as u32).map(InstanceId).collect();
        let operator = Operator::default();
        let judge = Judge {
            fleet: &fleet,
            verdicts: &verdicts,
            down: &[],
            steady_for: &[],
            operator,
            reported: &[],
            unresolved: Verdict::Unknown,
            grace_over,
            now: Tick(1000),
        };
        judge.judge(all(&members), Family::V4, rule, before.map(Standing::before))
    }

    fn all(instances: &[InstanceId]) -> Members<'_> {
        Members { instances, regions: &[], shares: &[], no_cname: false }
    }

    /// `i0:3 i1:1 / i0:3 +`: eligible with their weights, allowed, available.
    fn with_operator(weights: &[u32], verdicts: &[Verdict], said: &[Said]) -> String {
        let (fleet, operator) = (fleet(weights), Operator { instances: said, ..Operator::default() });
        let members: Vec<InstanceId> = (0..weights.len() as u32).map(InstanceId).collect();
        let judge = Judge {
            fleet: &fleet,
            verdicts,
            down: &[],
            steady_for: &[],
            operator,
            reported: &[],
            unresolved: Verdict::Unknown,
            grace_over: true,
            now: Tick(0),
        };
        let standing = judge.judge(all(&members), Family::V4, Rule::Threshold(5000), None);
        let list = |candidates: &Candidates| {
            let shown = candidates.list.iter().map(|one| format!("i{}:{}", one.instance.0, one.weight));
            shown.collect::<Vec<_>>().join(" ")
        };
        let mark = if standing.available { "+" } else { "-" };
        format!("{} / {} {mark}", list(&standing.eligible), list(&standing.allowed))
    }

    #[test]
    fn the_operator_decides_beside_the_checks() {
        use Administrative::{Drained, Enabled, ForcedDown, ForcedUp};
        use Verdict::{Down, Unknown, Up};
        let row = |weights, verdicts: &[Verdict], said: &[(Administrative, u16)], expected| {
            let said: Vec<Said> = said.iter().map(|&(state, percent)| Said { state, percent }).collect();
            assert_eq!(with_operator(weights, verdicts, &said), expected, "{weights:?} {verdicts:?} {said:?}");
        };
        row(&[1, 1], &[Up, Up], &[], "i0:1 i1:1 / i0:1 i1:1 +");
        row(&[1, 1], &[Up, Up], &[(Drained, 100)], "i1:1 / i1:1 +");
        row(&[1, 1], &[Up, Up], &[(Enabled, 100), (ForcedDown, 100)], "i0:1 / i0:1 +");
        // What is drained does not count, so the other one is all there is.
        row(&[3, 1], &[Up, Up], &[(Drained, 100)], "i1:1 / i1:1 +");
        row(&[3, 1], &[Down, Up], &[], "i1:1 / i0:3 i1:1 -");
        row(&[3, 1], &[Down, Unknown], &[(ForcedUp, 100)], "i0:3 / i0:3 i1:1 +");
        row(&[1, 1], &[Up, Up], &[(Drained, 100), (ForcedDown, 100)], " /  -");
        row(&[1, 1], &[Up, Up], &[(Enabled, 50)], "i0:1 i1:2 / i0:1 i1:2 +");
        row(&[1, 1], &[Up, Up], &[(Enabled, 0)], "i1:1 / i1:1 +");
        row(&[1, 1], &[Up, Up], &[(ForcedUp, 0)], "i1:1 / i1:1 +");
        row(&[2, 6], &[Up, Up], &[(Enabled, 33)], "i0:11 i1:100 / i0:11 i1:100 +");
        row(&[1_000_000, 1], &[Up, Up], &[(Enabled, 1000)], "i0:10000000 i1:1 / i0:10000000 i1:1 +");
        row(&[1, 0], &[Up, Up], &[(Enabled, 100), (ForcedUp, 100)], "i0:1 / i0:1 +");
    }

    #[test]
    fn a_group_is_available_above_its_threshold() {
        for (weights, verdicts, grace_over, threshold, available) in [
            (&[1, 1][..], "uu", true, 5000, true),
            (&[1, 1], "ud", true, 5000, true),
            (&[1, 1], "ud", true, 5001, false),
            (&[3, 1], "du", true, 2500, true),
            (&[3, 1], "du", true, 5000, false),
            (&[1, 1], "dd", true, 0, false),
            (&[1, 0], "du", true, 0, false),
            (&[1, 1, 1], "u??", false, 5000, true),
            (&[1, 1, 1], "u??", true, 5000, false),
            (&[1, 1], "??", false, 0, false),
            (&[], "", true, 0, false),
        ] {
            let standing = judge(weights, verdicts, grace_over, threshold, None);
            assert_eq!(standing.available, available, "{weights:?} {verdicts} {grace_over} {threshold}");
        }
    }

    #[test]
    fn what_spills_is_what_the_weight_does_not_suffice_for() {
        for (weights, verdicts, grace_over, spill, available, stays) in [
            (&[1, 1][..], "uu", true, 1000, true, 1.0),
            (&[1, 1], "ud", true, 1000, true, 0.5),
            (&[1, 1], "ud", true, 1400, true, 0.7),
            (&[1, 1], "ud", true, 2500, true, 1.0),
            (&[1, 1], "uu", true, 800, true, 0.8),
            (&[3, 1], "du", true, 1000, true, 0.25),
            (&[1, 1], "dd", true, 1000, false, 0.0),
            (&[1, 1, 1], "u??", false, 1000, true, 1.0),
            (&[1, 1, 1], "u?d", true, 1000, true, 1.0 / 3.0),
            (&[1_000_000; 9], "uuuuuuuud", true, 100_000, true, 1.0),
        ] {
            let standing = judge_by(weights, verdicts, grace_over, Rule::Spill(spill), None);
            let stayed = f64::from(standing.stays) / f64::from(ALL);
            assert_eq!(standing.available, available, "{weights:?} {verdicts}");
            assert!((stayed - stays).abs() < 1e-6, "{weights:?} {verdicts} {spill}: {stayed}");
        }
    }

    /// Agents say parts of weights: `i0:3 i1:1 / i0:3 i1:1 +`.
    #[test]
    fn agents_are_beside_the_operator_and_leave_somebody() {
        use Administrative::{Drained, Enabled, ForcedUp};
        let row = |weights: &[u32], verdicts: &str, said: &[(Administrative, u16)], parts: &[u16], expected: &str| {
            let fleet = fleet(weights);
            let said: Vec<Said> = said.iter().map(|&(state, percent)| Said { state, percent }).collect();
            let reported: Vec<Reported> =
                parts.iter().map(|&percent| Reported { percent, ..Reported::default() }).collect();
            let up = |letter| if letter == 'u' { Verdict::Up } else { Verdict::Down };
            let verdicts: Vec<Verdict> = verdicts.chars().map(up).collect();
            let judge = Judge {
                fleet: &fleet,
                verdicts: &verdicts,
                down: &[],
                steady_for: &[],
                operator: Operator { instances: &said, ..Operator::default() },
                reported: &reported,
                unresolved: Verdict::Unknown,
                grace_over: true,
                now: Tick(0),
            };
            let members: Vec<InstanceId> = (0..weights.len() as u32).map(InstanceId).collect();
            let standing = judge.judge(all(&members), Family::V4, Rule::Threshold(5000), None);
            let list = |candidates: &Candidates| {
                let shown = candidates.list.iter().map(|one| format!("i{}:{}", one.instance.0, one.weight));
                shown.collect::<Vec<_>>().join(" ")
            };
            let mark = if standing.available { "+" } else { "-" };
            let drained = if standing.is_drained { " drained" } else { "" };
            let found = format!("{} / {} {mark}{drained}", list(&standing.eligible), list(&standing.allowed));
            assert_eq!(found, expected, "{weights:?} {verdicts:?} {said:?} {parts:?}");
        };
        row(&[1, 1], "uu", &[], &[100, 100], "i0:1 i1:1 / i0:1 i1:1 +");
        row(&[1, 1], "uu", &[], &[75], "i0:3 i1:4 / i0:3 i1:4 +");
        row(&[1, 1], "uu", &[], &[200, 50], "i0:4 i1:1 / i0:4 i1:1 +");
        row(&[1, 1], "uu", &[], &[0, 50], "i1:1 / i1:1 +");
        row(&[1, 1], "ud", &[], &[0, 100], " / i1:1 -");
        row(&[1, 1], "uu", &[], &[0, 0], " / i0:100 i1:100 - drained");
        row(&[2, 0], "uu", &[], &[0, 0], " / i0:200 - drained");
        row(&[1, 1], "uu", &[(Drained, 100)], &[100, 0], " / i1:100 - drained");
        row(&[1, 1], "uu", &[(Drained, 100), (Drained, 100)], &[0, 0], " /  -");
        row(&[1, 1], "uu", &[(Enabled, 50)], &[50, 100], "i0:1 i1:4 / i0:1 i1:4 +");
        row(&[1, 1], "uu", &[(Enabled, 0)], &[50, 100], "i1:1 / i1:1 +");
        row(&[1, 1], "uu", &[(Enabled, 1)], &[1, 100], "i0:1 i1:100 / i0:1 i1:100 +");
        row(&[1, 1], "uu", &[(ForcedUp, 100)], &[0, 100], "i0:1 i1:1 / i0:1 i1:1 +");
        row(&[1_000_000, 1], "uu", &[(Enabled, 1000)], &[256], "i0:25600000 i1:1 / i0:25600000 i1:1 +");
    }

    #[test]
    fn what_spills_by_load_is_what_there_is_no_room_for() {
        use crate::fleet::Limits;
        let limits = |capacity, max_load| Limits { capacity, max_load };
        for (ratios, limits, stays) in [
            (&[None, None][..], [limits(100.0, None); 2], 1.0),
            (&[Some(50), Some(100)], [limits(100.0, None); 2], 1.0),
            (&[Some(100), Some(150)], [limits(100.0, None); 2], 0.8),
            // Those that do not report are in neither sum.
            (&[Some(200), None], [limits(100.0, None); 2], 0.5),
            (&[Some(0), Some(0)], [limits(100.0, None); 2], 1.0),
            // 700 and 100 of room, 400 and 1200 of load.
            (&[Some(50), Some(1200)], [limits(800.0, Some(700.0)), limits(100.0, None)], 0.5),
        ] {
            let mut fleet = fleet(&[1, 1]);
            fleet.limits = (0..).map(InstanceId).zip(limits).collect();
            let of = |&load: &Option<u16>| Reported { load, ..Reported::default() };
            let reported: Vec<Reported> = ratios.iter().map(of).collect();
            let judge = Judge {
                fleet: &fleet,
                verdicts: &[Verdict::Up, Verdict::Up],
                down: &[],
                steady_for: &[],
                operator: Operator::default(),
                reported: &reported,
                unresolved: Verdict::Unknown,
                grace_over: true,
                now: Tick(0),
            };
            let members = [InstanceId(0), InstanceId(1)];
            let standing = judge.judge(all(&members), Family::V4, Rule::Spill(1400), None);
            let stayed = f64::from(standing.stays) / f64::from(ALL);
            assert!(standing.available && (stayed - stays).abs() < 1e-6, "{ratios:?}: {stayed} for {stays}");
            let standing = judge.judge(all(&members), Family::V4, Rule::Threshold(5000), None);
            assert_eq!(standing.stays, ALL, "without `spill` all stay");
        }
    }

    #[test]
    fn keeps_the_time_of_loss() {
        let up = judge(&[1], "u", true, 5000, None);
        assert_eq!(up.lost_at, None);
        let down = judge(&[1], "d", true, 5000, Some(&up));
        assert_eq!(down.lost_at, Some(Tick(1000)));
        let earlier = Standing { lost_at: Some(Tick(5)), ..down.clone() };
        assert_eq!(judge(&[1], "d", true, 5000, Some(&earlier)).lost_at, Some(Tick(5)));
        let never = judge(&[1], "d", true, 5000, Some(&judge(&[1], "?", true, 5000, None)));
        assert_eq!(never.lost_at, None);
        assert_eq!(judge(&[1], "u", true, 5000, Some(&down)).lost_at, None);
    }

    #[test]
    fn families_are_judged_apart() {
        let mut fleet = fleet(&[1]);
        let six = Address { ip: "2001:db8::1".parse().expect("ip"), targets: [TargetId(1)].into() };
        let both = [fleet.instances[0].addresses[0].clone(), six];
        fleet.instances[0].addresses = both.into();
        let verdicts = [Verdict::Down, Verdict::Up];
        let judge = Judge {
            fleet: &fleet,
            verdicts: &verdicts,
            down: &[],
            steady_for: &[],
            operator: Operator::default(),
            reported: &[],
            unresolved: Verdict::Unknown,
            grace_over: true,
            now: Tick(0),
        };
        let of = |family| judge.judge(all(&[InstanceId(0)]), family, Rule::Threshold(5000), None);
        assert!(!of(Family::V4).available);
        assert!(of(Family::V6).available);
        assert_eq!(of(Family::V6).eligible.addresses.len(), 1);
    }
}
