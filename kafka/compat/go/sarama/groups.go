package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"

	"rafka.compat/compat"
)

// groups is what this client can do with groups.
var groups = []string{"classic", "range", "static", "groups", "delete_group", "committed", "reset", "forget"}

// member is also the handler of its sessions.
type member struct {
	seen    compat.Seen
	client  sarama.ConsumerGroup
	session sarama.ConsumerGroupSession
	end     context.CancelFunc
	over    chan struct{}
}

var members = map[string]*member{}

func (m *member) Setup(session sarama.ConsumerGroupSession) error {
	m.session = session
	m.seen.Assigned(session.Claims())
	return nil
}

func (m *member) Cleanup(session sarama.ConsumerGroupSession) error {
	m.seen.Revoked(session.Claims())
	return nil
}

func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			m.seen.Read(message.Topic, message.Partition, message.Offset)
		case <-session.Context().Done():
			return nil
		}
	}
}

func (d *driver) join(r compat.Request) (compat.Reply, error) {
	config := config()
	config.Metadata.RefreshFrequency = time.Second
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Group.Session.Timeout = time.Duration(r.SessionMs) * time.Millisecond
	config.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyRange()}
	config.Consumer.Group.InstanceId = r.Instance
	client, err := sarama.NewConsumerGroup(d.seeds, r.Group, config)
	if err != nil {
		return nil, err
	}
	ctx, end := context.WithCancel(context.Background())
	m := &member{client: client, end: end, over: make(chan struct{})}
	go func() {
		for range client.Errors() {
			// The client tries again by itself.
		}
	}()
	go m.run(ctx, r.Topic)
	members[r.Member] = m
	return nil, nil
}

func (m *member) run(ctx context.Context, topic string) {
	defer close(m.over)
	for ctx.Err() == nil {
		// What goes wrong between sessions is tried again, as the client's own examples do.
		if err := m.client.Consume(ctx, []string{topic}, m); errors.Is(err, sarama.ErrClosedConsumerGroup) {
			m.seen.Failed(err)
			return
		}
	}
}

func (d *driver) seen(r compat.Request) (compat.Reply, error) { return members[r.Member].seen.Reply() }

func (d *driver) commit(r compat.Request) (compat.Reply, error) {
	m := members[r.Member]
	for partition, offset := range m.seen.Positions(r.Topic) {
		m.session.MarkOffset(r.Topic, partition, offset, r.Metadata)
	}
	m.session.Commit()
	return nil, nil
}

func (d *driver) leave(r compat.Request) (compat.Reply, error) {
	m := members[r.Member]
	delete(members, r.Member)
	m.end()
	<-m.over
	return nil, m.client.Close()
}

func (d *driver) list(compat.Request) (compat.Reply, error) {
	found, err := d.admin.ListConsumerGroups()
	names := []string{}
	for name := range found {
		names = append(names, name)
	}
	return compat.Reply{"groups": names}, err
}

func (d *driver) group(r compat.Request) (compat.Reply, error) {
	found, err := d.admin.DescribeConsumerGroups([]string{r.Group})
	if err != nil {
		return nil, err
	}
	if found[0].Err != sarama.ErrNoError {
		return nil, found[0].Err
	}
	return compat.Reply{"state": found[0].State, "members": len(found[0].Members)}, nil
}

func (d *driver) committed(r compat.Request) (compat.Reply, error) {
	found, err := d.admin.ListConsumerGroupOffsets(r.Group, nil)
	if err != nil {
		return nil, err
	}
	offsets := map[int32][2]any{}
	for partition, block := range found.Blocks[r.Topic] {
		offsets[partition] = [2]any{block.Offset, block.Metadata}
	}
	return compat.Reply{"offsets": offsets}, nil
}

func (d *driver) reset(r compat.Request) (compat.Reply, error) {
	offsets := map[string]map[int32]sarama.OffsetAndMetadata{r.Topic: {r.Partition: {Offset: *r.Offset, LeaderEpoch: -1}}}
	found, err := d.admin.AlterConsumerGroupOffsets(r.Group, offsets, nil)
	if err != nil {
		return nil, err
	}
	for _, partitions := range found.Errors {
		for partition, refused := range partitions {
			if refused != sarama.ErrNoError {
				return nil, fmt.Errorf("partition %d: %w", partition, refused)
			}
		}
	}
	return nil, nil
}

func (d *driver) forget(r compat.Request) (compat.Reply, error) {
	found, err := d.admin.ListConsumerGroupOffsets(r.Group, nil)
	if err != nil {
		return nil, err
	}
	for partition := range found.Blocks[r.Topic] {
		if err := d.admin.DeleteConsumerGroupOffset(r.Group, r.Topic, partition); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func (d *driver) deleteGroup(r compat.Request) (compat.Reply, error) {
	return nil, d.admin.DeleteConsumerGroup(r.Group)
}
