//! Locality: which endpoints a proxy prefers, by where both are.
//!
//! Istio's `localityLbSetting`: either shares of the traffic per locality (`distribute`), or an order in which localities
//! take over from each other (`failover`, `failoverPriority`), which needs outlier detection to come into effect.
//!
//! *Invariant:* without outlier detection no group gets another priority than 0.

use std::collections::BTreeMap;

use model::spec::{Distribute, Failover, LocalityLoadBalancerSetting};

use super::endpoint::Endpoint;
use super::pb;

/// A locality: region, zone, subzone; any of them may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    region: String,
    zone: String,
    subzone: String,
}

impl Place {
    /// Reads `region/zone/subzone`; what follows does not count, as in Istio.
    pub(crate) fn new(text: &str) -> Self {
        let mut parts = text.split('/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Self {
            region: next(),
            zone: next(),
            subzone: next(),
        }
    }

    pub(crate) fn to_pb(&self) -> Option<pb::Locality> {
        (*self != Self::default()).then(|| pb::Locality {
            region: self.region.clone(),
            zone: self.zone.clone(),
            sub_zone: self.subzone.clone(),
        })
    }

    /// Whether a rule's `region/zone/subzone` covers this place; `*`, and whatever is left out, covers all.
    fn matches(&self, rule: &str) -> bool {
        let rule = Self::new(rule);
        let covers = |rule: &str, part: &str| rule == "*" || rule.is_empty() || rule == part;
        (rule.region == "*" || rule.region == self.region)
            && covers(&rule.zone, &self.zone)
            && covers(&rule.subzone, &self.subzone)
    }

    /// How far another place is: 0 the same subzone, 1 the same zone, 2 the same region, 3 another region.
    fn distance(&self, other: &Self) -> u32 {
        let same = [
            self.region == other.region,
            self.zone == other.zone,
            self.subzone == other.subzone,
        ];
        3 - same.iter().take_while(|same| **same).count() as u32
    }
}

/// How endpoints are balanced over localities, for one proxy and one cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Balance<'a> {
    place: &'a Place,
    labels: &'a BTreeMap<String, String>,
    rule: Rule<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Rule<'a> {
    None,
    Distribute(&'a [Distribute]),
    Failover {
        regions: &'a [Failover],
        labels: &'a [String],
    },
}

impl<'a> Balance<'a> {
    /// For a proxy at `place` with `labels`. `rule` is the DestinationRule's setting, `mesh` the mesh's, which counts when the
    /// rule has none; `outlier_detection` says whether the cluster ejects endpoints, without which nothing fails over.
    pub(crate) fn new(
        place: &'a Place,
        labels: &'a BTreeMap<String, String>,
        rule: Option<&'a LocalityLoadBalancerSetting>,
        mesh: Option<&'a LocalityLoadBalancerSetting>,
        outlier_detection: bool,
    ) -> Self {
        let setting = rule.or(mesh);
        let off = setting.is_some_and(|it| it.enabled == Some(false));
        let rule = match setting {
            _ if off => Rule::None,
            Some(it) if !it.distribute.is_empty() => Rule::Distribute(&it.distribute),
            _ if outlier_detection => Rule::Failover {
                regions: setting.map_or(&[], |it| &it.failover),
                labels: setting.map_or(&[], |it| &it.failover_priority),
            },
            _ => Rule::None,
        };
        Self {
            place,
            labels,
            rule,
        }
    }

    /// Whether Envoy must weigh localities (`locality_weighted_lb_config`), as Istio's `applyLocalityLoadBalancer` decides.
    pub(crate) fn is_weighted(&self) -> bool {
        match self.rule {
            Rule::None => false,
            Rule::Distribute(_) => true,
            Rule::Failover { regions, labels } => !regions.is_empty() || !labels.is_empty(),
        }
    }
}

/// Endpoints of one locality and one priority.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    pub(crate) place: &'a Place,
    pub(crate) priority: u32,
    pub(crate) weight: u32,
    pub(crate) endpoints: Vec<&'a Endpoint>,
}

/// Groups endpoints and gives each group its priority and weight. Priorities start at 0 and leave no gap: Envoy demands it.
pub(crate) fn groups<'a>(endpoints: &[&'a Endpoint], balance: &Balance<'_>) -> Vec<Group<'a>> {
    let mut groups: BTreeMap<(u32, &Place), Group<'a>> = BTreeMap::new();
    for endpoint in endpoints {
        let priority = priority(endpoint, balance);
        let group = groups
            .entry((priority, &endpoint.place))
            .or_insert_with(|| Group {
                place: &endpoint.place,
                priority,
                weight: 0,
                endpoints: Vec::new(),
            });
        group.weight = group.weight.saturating_add(endpoint.weight.max(1));
        group.endpoints.push(endpoint);
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    if let Rule::Distribute(rules) = balance.rule {
        distribute(&mut groups, balance.place, rules);
    }
    close_gaps(&mut groups);
    groups
}

fn priority(endpoint: &Endpoint, balance: &Balance<'_>) -> u32 {
    let Rule::Failover { regions, labels } = balance.rule else {
        return 0;
    };
    if labels.is_empty() || balance.labels.is_empty() {
        return region_priority(&endpoint.place, balance.place, regions);
    }
    let by_label = label_priority(endpoint, balance.labels, labels);
    if regions.is_empty() {
        return by_label;
    }
    // Five is the number of priorities that regions can give (`applyLocalityFailover`).
    by_label * 5 + region_priority(&endpoint.place, balance.place, regions)
}

/// The distance; regions other than the one that takes over from the proxy's come last.
fn region_priority(place: &Place, proxy: &Place, failover: &[Failover]) -> u32 {
    let distance = proxy.distance(place);
    let target = failover.iter().find(|rule| rule.from == proxy.region);
    match target {
        Some(rule) if distance == 3 && rule.to != place.region => 4,
        _ => distance,
    }
}

/// The number of labels that are left when the first one differs: 0 when all agree. `key=value` stands for the proxy's value.
fn label_priority(endpoint: &Endpoint, proxy: &BTreeMap<String, String>, labels: &[String]) -> u32 {
    let differs = |label: &String| {
        let (key, wanted) = match label.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (label.as_str(), proxy.get(label).map(String::as_str)),
        };
        wanted.unwrap_or_default() != endpoint.labels.get(key).map_or("", String::as_str)
    };
    labels
        .iter()
        .position(differs)
        .map_or(0, |at| (labels.len() - at) as u32)
}

/// Shares of the traffic by `distribute[].to`. Localities that no rule names get none; a pattern's share is divided among the
/// localities it covers by their own weights.
fn distribute(groups: &mut Vec<Group<'_>>, proxy: &Place, rules: &[Distribute]) {
    let Some(rule) = rules.iter().find(|rule| proxy.matches(&rule.from)) else {
        return;
    };
    let mut shares: Vec<Option<u32>> = vec![None; groups.len()];
    // Backwards, so that `us/a/1` takes its share before `us/*` does: `*` sorts before whatever stands in a name.
    for (pattern, percent) in rule.to.iter().rev() {
        let covered: Vec<usize> = (0..groups.len())
            .filter(|at| shares[*at].is_none() && groups[*at].place.matches(pattern))
            .collect();
        let total: u64 = covered.iter().map(|at| u64::from(groups[*at].weight)).sum();
        for at in covered {
            let share = (u64::from(groups[at].weight) * u64::from(*percent)).div_ceil(total);
            shares[at] = Some(share as u32);
        }
    }
    for (group, share) in groups.iter_mut().zip(shares) {
        group.weight = share.unwrap_or(0);
    }
    groups.retain(|group| group.weight > 0);
}

fn close_gaps(groups: &mut [Group<'_>]) {
    let mut used: Vec<u32> = groups.iter().map(|group| group.priority).collect();
    used.sort_unstable();
    used.dedup();
    for group in groups {
        group.priority = used
            .binary_search(&group.priority)
            .expect("collected above") as u32;
    }
}

#[cfg(test)]
mod tests;
