//! Topics that a group reads, and the target that follows from them.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use rafka_model::limits::{GROUP_REGEX_BYTES_MAX, GROUP_REGEX_COMPILED_BYTES_MAX, GROUP_REGEX_NESTING_MAX};
use rafka_model::{TopicId, TopicName};
use regex::RegexBuilder;

use super::Group;
use super::assignor::{Assignment, Assignor, Spec, Subscriber};
use super::timers::{Deadline, later};
use crate::group::OFFSETS_TOPIC;
use crate::group::records::consumer::{Epoch, Resolved, Subscription, TargetEpoch};
use crate::group::records::{ConsumerKey, ConsumerValue};
use crate::group::rules::Rule;
use crate::group::work::Work;
use crate::metadata::{Image, Topic};
use crate::{ErrorCode, Failure};

/// Topics that no expression stands for.
const INTERNAL: [&str; 3] = [OFFSETS_TOPIC, "__transaction_state", "__share_group_state"];

/// Reads an expression (RE2's syntax); it must match the whole name of a topic.
///
/// # Errors
/// [`ErrorCode::InvalidRegularExpression`] if it cannot be read, or is too large once compiled.
pub(super) fn compile(expression: &str) -> Result<regex::Regex, Failure> {
    let refuse = |why: String| Failure::new(ErrorCode::InvalidRegularExpression, why);
    if expression.len() > GROUP_REGEX_BYTES_MAX {
        return Err(refuse(format!("expression is {} bytes, limit is {GROUP_REGEX_BYTES_MAX}", expression.len())));
    }
    let build = |expression: &str| {
        let mut builder = RegexBuilder::new(expression);
        builder.size_limit(GROUP_REGEX_COMPILED_BYTES_MAX).dfa_size_limit(GROUP_REGEX_COMPILED_BYTES_MAX);
        builder.nest_limit(GROUP_REGEX_NESTING_MAX).build()
    };
    // Alone first: `a)|(b` is no expression, though `(a)|(b)` is.
    build(expression).map_err(|error| refuse(format!("regular expression cannot be read: {}", brief(&error))))?;
    build(&format!(r"\A(?:{expression})\z")).map_err(|error| refuse(format!("regular expression: {}", brief(&error))))
}

/// The last line of the parser's drawing says what is wrong.
fn brief(error: &regex::Error) -> String {
    let words = error.to_string();
    words.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

fn resolve(expression: &str, image: &Image) -> Result<BTreeSet<String>, Failure> {
    let compiled = compile(expression)?;
    let names = image.topic_ids.keys().map(|name| name.as_str()).filter(|name| !INTERNAL.contains(name));
    Ok(names.filter(|name| compiled.is_match(name)).map(str::to_owned).collect())
}

pub(super) fn topic<'a>(image: &'a Image, name: &str) -> Option<&'a Topic> {
    image.topic(&TopicName::new(name).ok()?)
}

impl Group {
    /// The assignor that most members ask for.
    pub(super) fn assignor(&self) -> Assignor {
        let mut votes = BTreeMap::<Assignor, usize>::new();
        for member in self.members.values() {
            if let Some(assignor) = member.subscription.assignor.as_deref().and_then(Assignor::of) {
                *votes.entry(assignor).or_default() += 1;
            }
        }
        let most = votes.into_iter().max_by_key(|(assignor, votes)| (*votes, std::cmp::Reverse(*assignor)));
        most.map(|(assignor, _)| assignor).unwrap_or_default()
    }

    /// Topics that the member reads: those that exist.
    fn reads(&self, subscription: &Subscription, image: &Image) -> BTreeSet<TopicId> {
        let by_regex = subscription.regex.as_ref().and_then(|expression| self.regexes.get(expression));
        let names = subscription.topics.iter().chain(by_regex.into_iter().flat_map(|resolved| &resolved.topics));
        names.filter_map(|name| topic(image, name)).map(|topic| topic.id).collect()
    }

    /// Topics that the member reads.
    pub(super) fn read_by(&self, id: &str, image: &Image) -> BTreeSet<TopicId> {
        self.members.get(id).map(|member| self.reads(&member.subscription, image)).unwrap_or_default()
    }

    /// A number for the topics that the group reads: their names, ids and sizes.
    fn metadata_hash(&self, image: &Image) -> i64 {
        let by_regex = self.regexes.values().flat_map(|resolved| &resolved.topics);
        let names: BTreeSet<&String> = self.topics.keys().chain(by_regex).collect();
        let mut hasher = blake3::Hasher::new();
        let mut any = false;
        for topic in names.into_iter().filter_map(|name| topic(image, name)) {
            any = true;
            hasher.update(&topic.id.0);
            hasher.update(&topic.partitions.len().to_be_bytes());
        }
        let bytes = *hasher.finalize().as_bytes();
        let number = i64::from_be_bytes(bytes[..8].try_into().expect("8 of 32 bytes"));
        if any { number } else { 0 }
    }

    /// Topics came, went or grew. `names_changed`: some came or went, so expressions may stand for others now.
    pub(in crate::group) fn image_changed(&mut self, work: &mut Work<'_>, names_changed: bool) {
        if names_changed {
            let expressions: Vec<String> = self.regexes.keys().cloned().collect();
            expressions.iter().for_each(|expression| self.resolve(work, expression));
        }
        if !self.members.is_empty() {
            self.refresh(work, false);
        }
    }

    /// Resolves an expression; writes it down if it stands for other topics than before.
    fn resolve(&mut self, work: &mut Work<'_>, expression: &str) {
        let image = work.context.image;
        // What cannot be read any more (another program took it) stands for nothing.
        let topics = resolve(expression, image).unwrap_or_default();
        if self.regexes.get(expression).is_none_or(|resolved| resolved.topics != topics) {
            let version = i64::try_from(image.index.0).unwrap_or(i64::MAX);
            let resolved = Resolved { topics, version, time: work.context.time };
            self.write(work, ConsumerKey::Regex(expression), Some(ConsumerValue::Regex(resolved)));
        }
    }

    /// Resolves expressions that came into use and forgets those that went out of it.
    pub(super) fn resolve_new(&mut self, work: &mut Work<'_>) {
        let unused: Vec<_> =
            self.regexes.keys().filter(|known| !self.expressions.contains_key(*known)).cloned().collect();
        unused.iter().for_each(|expression| self.write(work, ConsumerKey::Regex(expression), None));
        let unknown: Vec<_> =
            self.expressions.keys().filter(|used| !self.regexes.contains_key(*used)).cloned().collect();
        unknown.iter().for_each(|expression| self.resolve(work, expression));
    }

    /// Begins another epoch if there is `reason`, or if topics have changed; then makes the target if it is its turn.
    pub(super) fn refresh(&mut self, work: &mut Work<'_>, reason: bool) {
        self.refresh_for(work, work.output.records.len(), reason);
    }

    /// The same for the records from the `first` on: the epoch is put before them. So if the log ends among them, the
    /// next coordinator knows that the target is not up to date.
    pub(super) fn refresh_for(&mut self, work: &mut Work<'_>, first: usize, reason: bool) {
        let metadata_hash = self.metadata_hash(work.context.image);
        if reason || metadata_hash != self.epoch.metadata_hash {
            // A target of a later epoch is damage; the next epoch is beyond it all the same.
            let last = self.epoch.epoch.max(self.target_epoch.epoch);
            let epoch = Epoch { epoch: last.saturating_add(1), metadata_hash };
            self.write(work, ConsumerKey::Group, Some(ConsumerValue::Group(epoch)));
            if work.rules.hold(Rule::EpochsAreStoredFirst) {
                work.output.records[first..].rotate_right(1);
            }
            self.changed = Some(work.context.now);
        }
        self.assign_if_due(work);
    }

    /// Makes the target of the group's epoch, or has it made once enough time has passed since the last: many members
    /// that join one after another cost one target then, not many.
    pub(super) fn assign_if_due(&mut self, work: &mut Work<'_>) {
        if self.epoch.epoch <= self.target_epoch.epoch || self.members.is_empty() {
            return;
        }
        let interval = i64::try_from(work.config.consumer_assignment_interval_ms).unwrap_or(i64::MAX);
        match self.assigned.map(|at| later(at, interval)) {
            Some(due) if due > work.context.now => self.alarms.set(Deadline::Target, due),
            _ => self.assign(work),
        }
    }

    fn assign(&mut self, work: &mut Work<'_>) {
        let next = self.assignor().assign(&self.spec(work.context.image));
        for (id, share) in next {
            if self.target.get(&id) != Some(&share) {
                self.write(work, ConsumerKey::Target(&id), Some(ConsumerValue::Target(share)));
            }
        }
        let made = TargetEpoch { epoch: self.epoch.epoch, made: work.context.time };
        self.write(work, ConsumerKey::TargetEpoch, Some(ConsumerValue::TargetEpoch(made)));
        *work.rebalances += 1;
        self.assigned = Some(work.context.now);
        self.changed = Some(work.context.now);
    }

    fn spec<'a>(&'a self, image: &Image) -> Spec<'a> {
        let mut sets = BTreeMap::<(&BTreeSet<String>, Option<&String>), Rc<BTreeSet<TopicId>>>::new();
        let mut members = Vec::with_capacity(self.members.len());
        for (id, member) in &self.members {
            let subscription = &member.subscription;
            let topics = sets
                .entry((&subscription.topics, subscription.regex.as_ref()))
                .or_insert_with(|| Rc::new(self.reads(subscription, image)));
            let (instance, before) = (subscription.instance_id.as_deref(), self.target.get(id));
            members.push(Subscriber { id, instance, topics: Rc::clone(topics), before });
        }
        let read = sets.values().flat_map(|set| set.iter().copied());
        let sized = |id: TopicId| Some((id, u32::try_from(image.topics.get(&id)?.partitions.len()).ok()?));
        Spec { members, topics: read.filter_map(sized).collect() }
    }

    /// The share of a member; that of a member which is not in the target yet is empty.
    pub(super) fn share(&self, id: &Arc<str>) -> Assignment {
        self.target.get(id).cloned().unwrap_or_default()
    }
}
