package main

import (
	"context"
	"regexp"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rafka.compat/compat"
)

// groups is what this client can do with groups.
var groups = []string{
	"classic", "consumer", "range", "cooperative-sticky", "static", "pattern", "seek", "groups", "delete_group", "committed",
	"reset", "forget",
}

type member struct {
	seen   compat.Seen
	client *kgo.Client
	end    context.CancelFunc
	over   chan struct{}
}

var members = map[string]*member{}

func (d *driver) join(r compat.Request) (compat.Reply, error) {
	m := &member{over: make(chan struct{})}
	lost := func(_ context.Context, _ *kgo.Client, taken map[string][]int32) { m.seen.Revoked(taken) }
	options := []kgo.Opt{
		kgo.SeedBrokers(d.seeds...), kgo.ConsumerGroup(r.Group), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100 * time.Millisecond),
		kgo.MetadataMinAge(50 * time.Millisecond), kgo.MetadataMaxAge(time.Second),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, given map[string][]int32) { m.seen.Assigned(given) }),
		kgo.OnPartitionsRevoked(lost), kgo.OnPartitionsLost(lost),
	}
	switch {
	case r.Protocol == "consumer":
		options = append(options, kgo.ServerSideBalancer())
	case r.Assignor == "range":
		options = append(options, kgo.Balancers(kgo.RangeBalancer()))
	default:
		options = append(options, kgo.Balancers(kgo.CooperativeStickyBalancer()))
	}
	if r.Protocol == "classic" {
		session := time.Duration(r.SessionMs) * time.Millisecond
		options = append(options, kgo.SessionTimeout(session), kgo.HeartbeatInterval(500*time.Millisecond))
	}
	if r.Instance != "" {
		options = append(options, kgo.InstanceID(r.Instance))
	}
	topic := r.Topic
	if r.Pattern {
		topic = "^" + regexp.QuoteMeta(topic) + ".*"
		options = append(options, kgo.ConsumeRegex())
	}
	client, err := kgo.NewClient(append(options, kgo.ConsumeTopics(topic))...)
	if err != nil {
		return nil, err
	}
	m.client = client
	ctx, end := context.WithCancel(context.Background())
	m.end = end
	go m.run(ctx)
	members[r.Member] = m
	return nil, nil
}

func (m *member) run(ctx context.Context) {
	defer close(m.over)
	for ctx.Err() == nil {
		m.client.PollFetches(ctx).EachRecord(func(record *kgo.Record) {
			m.seen.Read(record.Topic, record.Partition, record.Offset)
		})
	}
}

func (d *driver) seen(r compat.Request) (compat.Reply, error) { return members[r.Member].seen.Reply() }

func (d *driver) commit(r compat.Request) (compat.Reply, error) {
	ctx, done := wait()
	defer done()
	m := members[r.Member]
	offsets := map[int32]kgo.EpochOffset{}
	for partition, offset := range m.seen.Positions(r.Topic) {
		offsets[partition] = kgo.EpochOffset{Epoch: -1, Offset: offset}
	}
	ctx = kgo.PreCommitFnContext(ctx, func(request *kmsg.OffsetCommitRequest) error {
		for i := range request.Topics {
			for j := range request.Topics[i].Partitions {
				request.Topics[i].Partitions[j].Metadata = &r.Metadata
			}
		}
		return nil
	})
	var failed error
	m.client.CommitOffsetsSync(
		ctx, map[string]map[int32]kgo.EpochOffset{r.Topic: offsets},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, response *kmsg.OffsetCommitResponse, err error) {
			failed = err
			if err != nil {
				return
			}
			failed = refused(response)
		})
	return nil, failed
}

func (d *driver) seek(r compat.Request) (compat.Reply, error) {
	members[r.Member].client.SetOffsets(
		map[string]map[int32]kgo.EpochOffset{r.Topic: {r.Partition: {Epoch: -1, Offset: *r.Offset}}})
	return nil, nil
}

func (d *driver) leave(r compat.Request) (compat.Reply, error) {
	ctx, done := wait()
	defer done()
	m := members[r.Member]
	delete(members, r.Member)
	err := m.client.LeaveGroupContext(ctx)
	m.end()
	<-m.over
	m.client.Close()
	return nil, err
}

func (d *driver) list(compat.Request) (compat.Reply, error) {
	ctx, done := wait()
	defer done()
	found, err := d.admin.ListGroups(ctx)
	return compat.Reply{"groups": found.Groups()}, err
}

func (d *driver) group(r compat.Request) (compat.Reply, error) {
	ctx, done := wait()
	defer done()
	found, err := d.admin.DescribeGroups(ctx, r.Group)
	if err != nil {
		return nil, err
	}
	group := found[r.Group]
	return compat.Reply{"state": strings.ToLower(group.State), "members": len(group.Members)}, group.Err
}

func (d *driver) committed(r compat.Request) (compat.Reply, error) {
	ctx, done := wait()
	defer done()
	found, err := d.admin.FetchOffsets(ctx, r.Group)
	offsets := map[int32][2]any{}
	found.Each(func(offset kadm.OffsetResponse) {
		if offset.Topic == r.Topic {
			offsets[offset.Partition] = [2]any{offset.At, offset.Metadata}
		}
		err = firstOf(err, offset.Err)
	})
	return compat.Reply{"offsets": offsets}, err
}

func (d *driver) reset(r compat.Request) (compat.Reply, error) {
	ctx, done := wait()
	defer done()
	offsets := kadm.Offsets{}
	offsets.AddOffset(r.Topic, r.Partition, *r.Offset, -1)
	return nil, d.admin.CommitAllOffsets(ctx, r.Group, offsets)
}

func (d *driver) forget(r compat.Request) (compat.Reply, error) {
	ctx, done := wait()
	defer done()
	offsets, err := d.admin.FetchOffsets(ctx, r.Group)
	if err != nil {
		return nil, err
	}
	which := kadm.TopicsSet{}
	for partition := range offsets[r.Topic] {
		which.Add(r.Topic, partition)
	}
	found, err := d.admin.DeleteOffsets(ctx, r.Group, which)
	return nil, firstOf(err, found.Error())
}

func (d *driver) deleteGroup(r compat.Request) (compat.Reply, error) {
	ctx, done := wait()
	defer done()
	found, err := d.admin.DeleteGroup(ctx, r.Group)
	return nil, firstOf(err, found.Err)
}

func refused(response *kmsg.OffsetCommitResponse) error {
	for _, topic := range response.Topics {
		for _, partition := range topic.Partitions {
			if err := kerr.ErrorForCode(partition.ErrorCode); err != nil {
				return err
			}
		}
	}
	return nil
}
