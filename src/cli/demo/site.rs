//! Which backend is where, as the configuration says.

use std::net::{IpAddr, SocketAddr};

use crate::fleet::{Fleet, Instance};

/// All instances of the demo, in configured order; others refer to them by index.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub(super) instances: Vec<Placed>,
}

/// An instance and its place.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    /// `eu-1`.
    pub(super) name: String,
    /// `eu-west`.
    pub(super) region: String,
    /// Its configured weight.
    pub(super) weight: u32,
    /// Where its backend listens.
    pub(super) address: SocketAddr,
}

impl Site {
    pub(super) fn of(fleet: &Fleet) -> Site {
        Site { instances: fleet.instances.iter().filter_map(|instance| placed(fleet, instance)).collect() }
    }

    /// The regions, in order of their first instance.
    pub(super) fn regions(&self) -> Vec<&str> {
        let mut regions: Vec<&str> = self.instances.iter().map(|placed| placed.region.as_str()).collect();
        regions.dedup();
        regions
    }

    /// The instance with that address.
    pub(super) fn at(&self, address: IpAddr) -> Option<usize> {
        self.instances.iter().position(|placed| placed.address.ip() == address)
    }

    /// The instances that `target` names: `eu-1`, `instance/web/eu-1`, `eu-west`, `region/eu-west`, `all`.
    pub(super) fn named(&self, target: &str) -> Vec<usize> {
        let pool_and_name = target.strip_prefix("instance/").and_then(|path| path.split_once('/'));
        let instance = pool_and_name.map_or(target, |(_, name)| name);
        let region = target.strip_prefix("region/").unwrap_or(target);
        let is_meant = |placed: &Placed| target == "all" || placed.name == instance || placed.region == region;
        (0..self.instances.len()).filter(|&index| is_meant(&self.instances[index])).collect()
    }

    /// `eu-west (eu-1, eu-2)`, or `nothing`.
    pub(super) fn describe(&self, instances: &[usize]) -> String {
        let names_in = |region: &str| -> Vec<&str> {
            let of_region = instances.iter().map(|&index| &self.instances[index]).filter(|one| one.region == region);
            of_region.map(|placed| placed.name.as_str()).collect()
        };
        let regions = self.regions().into_iter().map(|region| (region, names_in(region)));
        let shown: Vec<String> = regions
            .filter(|(_, names)| !names.is_empty())
            .map(|(region, names)| format!("{region} ({})", names.join(", ")))
            .collect();
        if shown.is_empty() { "nothing".into() } else { shown.join(" + ") }
    }
}

/// `None` for an instance without a checked address, which the demo does not have.
fn placed(fleet: &Fleet, instance: &Instance) -> Option<Placed> {
    let address = instance.addresses.first()?;
    let port = fleet.target(*address.targets.first()?).port;
    let region = fleet.region(*instance.regions.first()?).name.clone();
    Some(Placed {
        name: instance.name.to_string(),
        region,
        weight: instance.weight,
        address: SocketAddr::new(address.ip, port),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Two in Europe, one in America.
    pub(in super::super) fn site() -> Site {
        let instances = [("eu-1", "eu-west"), ("eu-2", "eu-west"), ("us-1", "us-east")];
        let placed = |(index, (name, region)): (usize, &(&str, &str))| Placed {
            name: (*name).into(),
            region: (*region).into(),
            weight: 1,
            address: SocketAddr::from(([127, 0, 11, index as u8 + 1], 18080)),
        };
        Site { instances: instances.iter().enumerate().map(placed).collect() }
    }

    #[test]
    fn targets_have_several_names() {
        let site = site();
        for (target, meant) in [
            ("eu-1", &[0][..]),
            ("instance/web/eu-2", &[1]),
            ("eu-west", &[0, 1]),
            ("region/eu-west", &[0, 1]),
            ("all", &[0, 1, 2]),
            ("eu", &[]),
            ("region/eu-1", &[]),
            ("", &[]),
        ] {
            assert_eq!(site.named(target), meant, "{target}");
        }
    }

    #[test]
    fn described_by_region() {
        let site = site();
        assert_eq!(site.describe(&[0, 1]), "eu-west (eu-1, eu-2)");
        assert_eq!(site.describe(&[1, 2]), "eu-west (eu-2) + us-east (us-1)");
        assert_eq!(site.describe(&[]), "nothing");
    }
}
