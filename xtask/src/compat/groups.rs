//! What every client that has consumer groups has to prove of them. These cases run side by side, each with processes of its
//! own.

use serde_json::{Value, json};

use super::cases::{Case, Outcome};
use super::cluster::SESSION_MS;
use super::members::{How, Member, Team};
use super::records::{produce, records};
use super::session::{Session, Trouble, check};

/// Partitions of each topic.
pub(super) const PARTITIONS: usize = 4;
/// Records that are sent at once.
pub(super) const SOME: usize = 40;

/// A session in which a process is started again even on a busy machine, milliseconds.
const LONG_MS: u32 = 20_000;

/// All of them, in the order of the page.
pub(super) const CASES: &[Case] = &[
    Case {
        name: "group-resume",
        proves: "a member of a group reads four partitions, commits and leaves; the next one goes on there: nothing twice, \
                 nothing lost",
        run: |session| resume(session, How::CLASSIC),
    },
    Case {
        name: "group-rebalance",
        proves: "a second member, that knows another node, joins and leaves: each gets its share, nothing twice, nothing lost",
        run: |session| rebalance(session, How::CLASSIC),
    },
    Case {
        name: "group-crash",
        proves: "a member's process is killed (SIGKILL): after its session the other one has all partitions, and goes on from \
                 what was committed",
        run: |session| crash(session, How::CLASSIC),
    },
    Case {
        name: "group-static",
        proves: "a static member is killed and comes back within its session: the same partitions, no rebalance",
        run: fixed,
    },
    Case {
        name: "group-cooperative",
        proves: "cooperative assignor: a member keeps what stays its own while another one joins",
        run: cooperative,
    },
    Case {
        name: "group-848",
        proves: "`group-resume` by the protocol of KIP-848 (`group.protocol=consumer`)",
        run: |session| resume(session, How::CONSUMER),
    },
    Case {
        name: "group-848-rebalance",
        proves: "`group-rebalance` by the protocol of KIP-848",
        run: |session| rebalance(session, How::CONSUMER),
    },
    Case {
        name: "group-848-crash",
        proves: "`group-crash` by the protocol of KIP-848",
        run: |session| crash(session, How::CONSUMER),
    },
    Case {
        name: "group-848-pattern",
        proves: "KIP-848: a subscription by a regular expression that the broker evaluates; a topic that is made later is seen",
        run: pattern,
    },
    Case {
        name: "group-upgrade",
        proves: "a running group goes from the classic protocol to KIP-848's and back, member by member",
        run: upgrade,
    },
    Case { name: "group-seek", proves: "a member seeks back, and reads again from there on", run: seek },
    Case {
        name: "group-metadata",
        proves: "committed offsets are read back by those who are not members, with the text that was committed with them",
        run: metadata,
    },
    Case { name: "group-list", proves: "listing and describing groups: state, number of members", run: list },
    Case { name: "group-delete", proves: "a group with members is not deleted, an empty one is", run: delete },
    Case {
        name: "group-reset",
        proves: "an administrator sets the offset of an empty group; its next member starts there",
        run: reset,
    },
    Case { name: "group-forget", proves: "an administrator deletes a group's offsets for a topic", run: forget },
    Case {
        name: "tools-console",
        proves: "`kafka-console-consumer --group` goes on where the one before has ended",
        run: console,
    },
    Case {
        name: "tools-groups",
        proves: "`kafka-consumer-groups`: `--list --state`, `--describe` with `--offsets` (lag), `--members --verbose` and \
                 `--state`, `--delete-offsets`, `--delete`",
        run: groups_tool,
    },
    Case {
        name: "tools-reset",
        proves: "`kafka-consumer-groups --reset-offsets --execute` with `--to-earliest`, `--to-latest`, `--to-offset`, \
                 `--shift-by`, `--by-duration`, `--to-datetime`",
        run: reset_tool,
    },
    Case { name: "tools-perf", proves: "`kafka-consumer-perf-test` reads 20,000 records in a group", run: perf_tool },
    Case {
        name: "tools-offsets",
        proves: "`kafka-console-consumer` reads commits from `__consumer_offsets` by Kafka's `OffsetsMessageFormatter`, and \
                 groups by its `GroupMetadataMessageFormatter`",
        run: offsets_tool,
    },
    Case { name: "tools-configs", proves: "`kafka-configs --entity-type groups --describe --all`", run: configs_tool },
];

/// Sends records to all partitions of the team's topic.
fn send(team: &mut Team, session: &mut Session<'_>) -> Outcome {
    session.ask("produce", produce("none", "all", true, &team.topic, &records(SOME, PARTITIONS)))?;
    team.sent(SOME / PARTITIONS);
    Ok(())
}

fn resume(session: &mut Session<'_>, how: How) -> Outcome {
    let mut team = Team::new(session, "resume", how)?;
    send(&mut team, session)?;
    let mut first = team.join(session, "a", how)?;
    team.receive(session, &mut [&mut first])?;
    first.commit(session, &team.topic)?;
    first.leave(session)?;
    send(&mut team, session)?;
    let mut second = team.join(session, "b", how)?;
    team.receive(session, &mut [&mut first.gone(), &mut second])?;
    second.leave(session)
}

fn rebalance(session: &mut Session<'_>, how: How) -> Outcome {
    let mut team = Team::new(session, "rebalance", how)?;
    let mut first = team.join(session, "a", how)?;
    team.settle(session, &mut [&mut first])?;
    send(&mut team, session)?;
    team.receive(session, &mut [&mut first])?;
    first.commit(session, &team.topic)?;
    let mut second = team.join(session, "b", how)?;
    team.settle(session, &mut [&mut first, &mut second])?;
    send(&mut team, session)?;
    team.receive(session, &mut [&mut first, &mut second])?;
    first.commit(session, &team.topic)?;
    second.commit(session, &team.topic)?;
    second.leave(session)?;
    team.settle(session, &mut [&mut first])?;
    send(&mut team, session)?;
    team.receive(session, &mut [&mut first, &mut second.gone()])?;
    first.leave(session)
}

fn crash(session: &mut Session<'_>, how: How) -> Outcome {
    let mut team = Team::new(session, "crash", how)?;
    let mut first = team.join(session, "a", how)?;
    let mut second = team.join_aside(session, "b", how)?;
    team.settle(session, &mut [&mut first, &mut second])?;
    send(&mut team, session)?;
    team.receive(session, &mut [&mut first, &mut second])?;
    first.commit(session, &team.topic)?;
    second.commit(session, &team.topic)?;
    let mut second = second.kill();
    team.settle(session, &mut [&mut first])?;
    send(&mut team, session)?;
    team.receive(session, &mut [&mut first, &mut second])?;
    first.leave(session)
}

fn fixed(session: &mut Session<'_>) -> Outcome {
    let how = |instance| How { instance: Some(instance), session_ms: LONG_MS, ..How::CLASSIC };
    let mut team = Team::new(session, "static", how("one"))?;
    let mut first = team.join(session, "a", how("one"))?;
    let mut second = team.join_aside(session, "b", how("two"))?;
    team.settle(session, &mut [&mut first, &mut second])?;
    send(&mut team, session)?;
    team.receive(session, &mut [&mut first, &mut second])?;
    first.commit(session, &team.topic)?;
    second.commit(session, &team.topic)?;
    let before = (first.rebalances, second.assigned.clone());
    let mut killed = second.kill();
    let mut again = team.join_aside(session, "b", how("two"))?;
    team.settle(session, &mut [&mut first, &mut again])?;
    send(&mut team, session)?;
    team.receive(session, &mut [&mut first, &mut killed, &mut again])?;
    check(again.assigned == before.1, || format!("it had {:?}, and has {:?} now", before.1, again.assigned))?;
    check(first.rebalances == before.0, || {
        format!("the other one was rebalanced: {} times before, {} now", before.0, first.rebalances)
    })
}

fn cooperative(session: &mut Session<'_>) -> Outcome {
    let how = How { assignor: "cooperative-sticky", ..How::CLASSIC };
    let mut team = Team::new(session, "cooperative", how)?;
    let mut first = team.join(session, "a", how)?;
    team.settle(session, &mut [&mut first])?;
    send(&mut team, session)?;
    team.receive(session, &mut [&mut first])?;
    first.commit(session, &team.topic)?;
    let mut second = team.join(session, "b", how)?;
    team.settle(session, &mut [&mut first, &mut second])?;
    send(&mut team, session)?;
    team.receive(session, &mut [&mut first, &mut second])?;
    let moved = u64::try_from(PARTITIONS / 2).unwrap_or(0);
    check(first.revoked == moved, || format!("{} partitions were taken away, not {moved}", first.revoked))?;
    second.leave(session)?;
    first.leave(session)
}

fn pattern(session: &mut Session<'_>) -> Outcome {
    let how = How { pattern: true, ..How::CONSUMER };
    let mut team = Team::new(session, "pattern", how)?;
    send(&mut team, session)?;
    let mut first = team.join(session, "a", how)?;
    team.receive(session, &mut [&mut first])?;
    let later = format!("{}-later", team.topic);
    session.create(&later, 1, json!({}))?;
    session.ask("produce", produce("none", "all", true, &later, &records(SOME, 1)))?;
    first.until(session, "records of the later topic", |member| member.of_topic(&later).count() >= SOME)?;
    first.leave(session)
}

fn upgrade(session: &mut Session<'_>) -> Outcome {
    let mut team = Team::new(session, "upgrade", How::CONSUMER)?;
    let mut old = team.join(session, "a", How::CLASSIC)?;
    team.settle(session, &mut [&mut old])?;
    send(&mut team, session)?;
    team.receive(session, &mut [&mut old])?;
    old.commit(session, &team.topic)?;
    let mut new = team.join(session, "b", How::CONSUMER)?;
    team.settle(session, &mut [&mut old, &mut new])?;
    send(&mut team, session)?;
    team.receive(session, &mut [&mut old, &mut new])?;
    old.commit(session, &team.topic)?;
    new.commit(session, &team.topic)?;
    old.leave(session)?;
    team.settle(session, &mut [&mut new])?;
    send(&mut team, session)?;
    team.receive(session, &mut [&mut old.gone(), &mut new])?;
    new.commit(session, &team.topic)?;
    let mut back = team.join(session, "c", How::CLASSIC)?;
    team.settle(session, &mut [&mut new, &mut back])?;
    send(&mut team, session)?;
    team.receive(session, &mut [&mut old.gone(), &mut new, &mut back])?;
    new.commit(session, &team.topic)?;
    back.commit(session, &team.topic)?;
    new.leave(session)?;
    team.settle(session, &mut [&mut back])?;
    send(&mut team, session)?;
    team.receive(session, &mut [&mut old.gone(), &mut new.gone(), &mut back])?;
    back.leave(session)
}

fn seek(session: &mut Session<'_>) -> Outcome {
    session.can("seek")?;
    let mut team = Team::new(session, "seek", How::CLASSIC)?;
    send(&mut team, session)?;
    let mut member = team.join(session, "a", How::CLASSIC)?;
    team.receive(session, &mut [&mut member])?;
    let before = member.records.len();
    member.ask(session, "seek", json!({ "topic": team.topic, "partition": 1, "offset": 3 }))?;
    let again = SOME / PARTITIONS - 3;
    member.until(session, "the records after the seek", |member| member.records.len() >= before + again)?;
    let found: Vec<_> = member.records[before..].iter().map(|record| (record.1, record.2)).collect();
    let wanted: Vec<_> = (3..).map(|offset| (1, offset)).take(again).collect();
    check(found == wanted, || format!("{found:?} instead of {wanted:?}"))?;
    member.leave(session)
}

/// A group with a committed offset of ten in each partition, its member still there.
fn committed(session: &mut Session<'_>, case: &str, op: &str) -> Result<(Team, Member<'static>), Trouble> {
    session.can(op)?;
    let mut team = Team::new(session, case, How::CLASSIC)?;
    send(&mut team, session)?;
    let mut member = team.join(session, "a", How::CLASSIC)?;
    team.receive(session, &mut [&mut member])?;
    member.commit(session, &team.topic)?;
    Ok((team, member))
}

fn metadata(session: &mut Session<'_>) -> Outcome {
    let (team, mut member) = committed(session, "metadata", "committed")?;
    let answer = session.ask("committed", json!({ "group": team.group, "topic": team.topic }))?;
    let wanted = json!([SOME / PARTITIONS, member.metadata]);
    for partition in 0..PARTITIONS {
        let found = &answer["offsets"][partition.to_string()];
        let right = match session.says("metadata") {
            true => *found == wanted,
            false => found[0] == wanted[0],
        };
        check(right, || format!("partition {partition} has {found} instead of {wanted}"))?;
    }
    member.leave(session)
}

fn state_is(session: &mut Session<'_>, group: &str, state: &str, members: usize) -> Outcome {
    session.eventually("group", &json!({ "group": group }), |answer| {
        answer["state"].as_str().is_some_and(|found| found.to_lowercase().ends_with(state))
            && answer["members"] == members
    })
}

fn listed(answer: &Value, group: &str) -> bool {
    answer["groups"].as_array().is_some_and(|groups| groups.iter().any(|one| one == group))
}

fn list(session: &mut Session<'_>) -> Outcome {
    let (team, mut member) = committed(session, "list", "groups")?;
    session.eventually("groups", &json!({}), |answer| listed(answer, &team.group))?;
    state_is(session, &team.group, "stable", 1)?;
    member.leave(session)?;
    state_is(session, &team.group, "empty", 0)
}

fn delete(session: &mut Session<'_>) -> Outcome {
    let (team, mut member) = committed(session, "delete", "delete_group")?;
    let asked = json!({ "group": team.group });
    let refused = session.ask("delete_group", asked.clone());
    check(matches!(refused, Err(Trouble::Failed(_))), || "it was deleted under its member".to_owned())?;
    member.leave(session)?;
    session.eventually("delete_group", &asked, |_| true)?;
    session.eventually("groups", &json!({}), |answer| !listed(answer, &team.group))
}

fn reset(session: &mut Session<'_>) -> Outcome {
    let (mut team, mut member) = committed(session, "reset", "reset")?;
    member.leave(session)?;
    let asked = json!({ "group": team.group, "topic": team.topic, "partition": 1, "offset": 4 });
    session.eventually("reset", &asked, |_| true)?;
    team.joined += 1;
    let mut next = team.join(session, "b", How::CLASSIC)?;
    let again = SOME / PARTITIONS - 4;
    next.until(session, "the records after the new offset", |member| member.records.len() >= again)?;
    let found: Vec<_> = next.records.iter().map(|record| (record.1, record.2)).collect();
    let wanted: Vec<_> = (4..).map(|offset| (1, offset)).take(again).collect();
    check(found == wanted, || format!("{found:?} instead of {wanted:?}"))?;
    next.leave(session)
}

fn forget(session: &mut Session<'_>) -> Outcome {
    let (team, mut member) = committed(session, "forget", "forget")?;
    member.leave(session)?;
    let asked = json!({ "group": team.group, "topic": team.topic });
    session.eventually("forget", &asked, |_| true)?;
    session.eventually("committed", &asked, |answer| answer["offsets"].as_object().is_some_and(|left| left.is_empty()))
}

/// A topic with records, and a group that the tools know of it.
fn tools(session: &mut Session<'_>, case: &str) -> Result<Team, Trouble> {
    session.can("console_group")?;
    let mut team = Team::unchecked(session, case)?;
    send(&mut team, session)?;
    let read = session.ask("console_group", json!({ "group": team.group, "topic": team.topic, "count": SOME }))?;
    check(read["count"] == SOME, || format!("{} of {SOME} records", read["count"]))?;
    Ok(team)
}

fn console(session: &mut Session<'_>) -> Outcome {
    let mut team = tools(session, "console")?;
    send(&mut team, session)?;
    let read = session.ask("console_group", json!({ "group": team.group, "topic": team.topic, "count": 2 * SOME }))?;
    check(read["count"] == SOME, || format!("{} records instead of the {SOME} new ones", read["count"]))
}

fn groups_tool(session: &mut Session<'_>) -> Outcome {
    let team = tools(session, "groups-tool")?;
    session.ask("groups_tool", json!({ "group": team.group, "topic": team.topic, "count": SOME })).map(|_| ())
}

fn reset_tool(session: &mut Session<'_>) -> Outcome {
    let team = tools(session, "reset-tool")?;
    let ends = SOME / PARTITIONS;
    for (how, wanted) in [
        ("--to-earliest", 0),
        ("--to-latest", ends),
        ("--to-offset 7", 7),
        ("--shift-by -2", 5),
        ("--by-duration PT2H", 0),
        ("--to-datetime 2100-01-01T00:00:00.000", ends),
        ("--to-current", ends),
    ] {
        let asked = json!({ "group": team.group, "topic": team.topic, "how": how });
        session.eventually("reset_tool", &asked, |_| true)?;
        let answer = session.ask("committed", json!({ "group": team.group, "topic": team.topic }))?;
        for partition in 0..PARTITIONS {
            let found = &answer["offsets"][partition.to_string()][0];
            check(*found == wanted, || format!("{how}: offset {found} instead of {wanted} in partition {partition}"))?;
        }
    }
    Ok(())
}

fn perf_tool(session: &mut Session<'_>) -> Outcome {
    session.can("perf_group")?;
    let topic = session.new_topic("perf-group");
    session.create(&topic, 1, json!({}))?;
    session.ask("perf", json!({ "topic": topic, "count": 20_000 }))?;
    session.ask("perf_group", json!({ "group": topic, "topic": topic, "count": 20_000 })).map(|_| ())
}

fn offsets_tool(session: &mut Session<'_>) -> Outcome {
    let team = tools(session, "offsets-tool")?;
    session.ask("format_offsets", json!({ "group": team.group, "topic": team.topic })).map(|_| ())
}

fn configs_tool(session: &mut Session<'_>) -> Outcome {
    session.can("group_configs")?;
    let group = session.new_topic("configs-tool");
    session.ask("group_configs", json!({ "group": group, "session_ms": SESSION_MS })).map(|_| ())
}
