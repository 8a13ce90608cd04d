// Command groups measures a coordinator of groups, as a client of Kafka sees it:
//
//	groups join    -bootstrap A -members 200 -protocol classic|consumer
//	groups commit  -bootstrap A -groups 100 -seconds 10
//	groups fill    -bootstrap A -groups 1000 -partitions 1000
//	groups loaded  -bootstrap A -groups 1000 -partitions 1000
//
// Each prints one line: a name and a figure, tab-separated.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// topic has a partition for each member, or each offset of a group.
const topic = "bench-groups"

var (
	flags      = flag.NewFlagSet("groups", flag.ExitOnError)
	bootstrap  = flags.String("bootstrap", "127.0.0.1:9092", "address of a broker")
	members    = flags.Int("members", 200, "members of the one group that is joined")
	protocol   = flags.String("protocol", "classic", "classic or consumer (KIP-848)")
	groups     = flags.Int("groups", 100, "groups that have offsets")
	partitions = flags.Int("partitions", 1000, "offsets of each group")
	flight     = flags.Int("flight", 1, "commits of each group under way at once")
	seconds    = flags.Int("seconds", 10, "length of a measurement")
	name       = flags.String("name", fmt.Sprintf("bench-%d", os.Getpid()), "prefix of the groups")
)

func main() {
	commands := map[string]func(context.Context) error{"join": join, "commit": commit, "fill": fill, "loaded": loaded}
	command := (func(context.Context) error)(nil)
	if len(os.Args) > 1 {
		command = commands[os.Args[1]]
	}
	if command == nil {
		fmt.Fprintln(os.Stderr, "groups join|commit|fill|loaded [options]")
		os.Exit(2)
	}
	_ = flags.Parse(os.Args[2:])
	ctx, done := context.WithTimeout(context.Background(), 5*time.Minute)
	defer done()
	if err := command(ctx); err != nil {
		fmt.Fprintln(os.Stderr, os.Args[1]+":", err)
		os.Exit(1)
	}
}

func open(options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(*bootstrap), kgo.MetadataMinAge(50 * time.Millisecond)}, options...)...)
}

// prepare makes the topic, and has the brokers make theirs for the offsets.
func prepare(ctx context.Context, name string, count int) error {
	client, err := open()
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	if _, err := admin.CreateTopic(ctx, int32(count), 1, nil, name); err != nil && err != kerr.TopicAlreadyExists {
		return err
	}
	for ctx.Err() == nil {
		found, err := admin.ListTopics(ctx, name)
		if err == nil && len(found[name].Partitions) == count && found.Error() == nil {
			break
		}
	}
	for ctx.Err() == nil {
		if _, err := admin.FetchOffsets(ctx, "bench-prepare"); err == nil {
			return nil
		}
	}
	return ctx.Err()
}

// join has all members join at once, and waits until each has its partition.
func join(ctx context.Context) error {
	name := fmt.Sprintf("%s-%d", topic, *members)
	if err := prepare(ctx, name, *members); err != nil {
		return err
	}
	group := fmt.Sprintf("%s-%s-%d", *protocol, topic, os.Getpid())
	var owned sync.Map
	var count, told atomic.Int64
	all := make(chan struct{}, 1)
	look := func() {
		if count.Load() == int64(*members) {
			select {
			case all <- struct{}{}:
			default:
			}
		}
	}
	clients := make([]*kgo.Client, 0, *members)
	began := time.Now()
	for member := range *members {
		has := map[int32]bool{}
		var mutex sync.Mutex
		change := func(given map[string][]int32, more bool) {
			mutex.Lock()
			defer mutex.Unlock()
			for _, partition := range given[name] {
				if more {
					has[partition] = true
				} else {
					delete(has, partition)
				}
			}
			// At rest, each has one.
			_, was := owned.Load(member)
			switch {
			case len(has) == 1 && !was:
				owned.Store(member, true)
				count.Add(1)
			case len(has) != 1 && was:
				owned.Delete(member)
				count.Add(-1)
			}
			look()
		}
		lost := func(_ context.Context, _ *kgo.Client, taken map[string][]int32) { change(taken, false) }
		options := []kgo.Opt{
			kgo.ConsumerGroup(group), kgo.ConsumeTopics(name), kgo.DisableAutoCommit(), kgo.OnPartitionsRevoked(lost),
			kgo.OnPartitionsLost(lost), kgo.FetchMaxWait(5 * time.Second),
			kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, given map[string][]int32) {
				told.Add(1)
				change(given, true)
			}),
		}
		if *protocol == "consumer" {
			options = append(options, kgo.ServerSideBalancer())
		} else {
			options = append(options, kgo.Balancers(kgo.RangeBalancer()))
		}
		client, err := open(options...)
		if err != nil {
			return err
		}
		clients = append(clients, client)
	}
	select {
	case <-all:
	case <-ctx.Done():
		return fmt.Errorf("%d of %d members have their partition", count.Load(), *members)
	}
	fmt.Printf("join-%s-ms\t%d\n", *protocol, time.Since(began).Milliseconds())
	// Those that leave are not measured: the process ends, and their sessions with it.
	for _, client := range clients[:1] {
		client.CloseAllowingRebalance()
	}
	return nil
}

func request(group string, from, to int) *kmsg.OffsetCommitRequest {
	request := kmsg.NewPtrOffsetCommitRequest()
	request.Group, request.Generation = group, -1
	offsets := kmsg.NewOffsetCommitRequestTopic()
	offsets.Topic = fmt.Sprintf("%s-%d", topic, *partitions)
	for partition := from; partition < to; partition++ {
		one := kmsg.NewOffsetCommitRequestTopicPartition()
		one.Partition, one.Offset, one.Metadata = int32(partition), int64(partition), kmsg.StringPtr("")
		offsets.Partitions = append(offsets.Partitions, one)
	}
	request.Topics = append(request.Topics, offsets)
	return request
}

func send(ctx context.Context, client *kgo.Client, request *kmsg.OffsetCommitRequest) error {
	response, err := request.RequestWith(ctx, client)
	if err != nil {
		return err
	}
	for _, topic := range response.Topics {
		for _, partition := range topic.Partitions {
			if err := kerr.ErrorForCode(partition.ErrorCode); err != nil {
				return err
			}
		}
	}
	return nil
}

// each calls work for every group, with a client for ten of them.
func each(work func(client *kgo.Client, group string) error) error {
	var wait sync.WaitGroup
	failed := make(chan error, *groups**flight)
	clients := []*kgo.Client{}
	for group := range *groups {
		if group%10 == 0 && len(clients) < 20 {
			// Later versions of commits name topics by their ids.
			client, err := open(kgo.MaxVersions(kversion.V3_9_0()))
			if err != nil {
				return err
			}
			defer client.Close()
			clients = append(clients, client)
		}
		client := clients[group%len(clients)]
		for range *flight {
			wait.Go(func() {
				if err := work(client, fmt.Sprintf("%s-%d", *name, group)); err != nil {
					failed <- err
				}
			})
		}
	}
	wait.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// commit counts what all groups commit, each an offset at a time.
func commit(ctx context.Context) error {
	*partitions = 12
	if err := prepare(ctx, fmt.Sprintf("%s-%d", topic, *partitions), *partitions); err != nil {
		return err
	}
	var count atomic.Int64
	var from, until atomic.Int64
	warm := time.Now().Add(2 * time.Second)
	end := warm.Add(time.Duration(*seconds) * time.Second)
	err := each(func(client *kgo.Client, group string) error {
		for partition := 0; ; partition++ {
			now := time.Now()
			if now.After(end) {
				return nil
			}
			if err := send(ctx, client, request(group, partition%*partitions, partition%*partitions+1)); err != nil {
				return err
			}
			if now.After(warm) {
				from.CompareAndSwap(0, now.UnixNano())
				until.Store(time.Now().UnixNano())
				count.Add(1)
			}
		}
	})
	if err != nil {
		return err
	}
	took := time.Duration(until.Load() - from.Load()).Seconds()
	fmt.Printf("commits-per-second-%d-in-flight\t%.0f\n", *flight, float64(count.Load())/took)
	return nil
}

// fill commits all offsets of all groups.
func fill(ctx context.Context) error {
	if err := prepare(ctx, fmt.Sprintf("%s-%d", topic, *partitions), *partitions); err != nil {
		return err
	}
	*flight = 1
	began := time.Now()
	slots := make(chan struct{}, 32)
	err := each(func(client *kgo.Client, group string) error {
		slots <- struct{}{}
		defer func() { <-slots }()
		return send(ctx, client, request(group, 0, *partitions))
	})
	if err != nil {
		return err
	}
	fmt.Printf("fill-ms\t%d\n", time.Since(began).Milliseconds())
	return nil
}

// loaded waits until the last offset of four hundred groups, which lie with all coordinators, is told.
func loaded(ctx context.Context) error {
	began := time.Now()
	left := []string{}
	for group := range min(*groups, 400) {
		left = append(left, fmt.Sprintf("%s-%d", *name, group))
	}
	last := error(nil)
	for len(left) > 0 && ctx.Err() == nil {
		left, last = loading(ctx, left)
	}
	if len(left) > 0 || last != nil {
		return fmt.Errorf("%d groups are not there: %w", len(left), last)
	}
	fmt.Printf("loaded-ms\t%d\n", time.Since(began).Milliseconds())
	return nil
}

// loading asks once, and returns the groups that are not there yet. Each time a new client: the brokers may be away.
func loading(ctx context.Context, names []string) ([]string, error) {
	client, err := open(kgo.MaxVersions(kversion.V3_9_0()), kgo.RetryTimeout(50*time.Millisecond))
	if err != nil {
		return names, err
	}
	defer client.Close()
	request := kmsg.NewPtrOffsetFetchRequest()
	for _, name := range names {
		group := kmsg.NewOffsetFetchRequestGroup()
		group.Group = name
		wanted := kmsg.NewOffsetFetchRequestGroupTopic()
		wanted.Topic, wanted.Partitions = fmt.Sprintf("%s-%d", topic, *partitions), []int32{int32(*partitions - 1)}
		group.Topics = append(group.Topics, wanted)
		request.Groups = append(request.Groups, group)
	}
	response, err := request.RequestWith(ctx, client)
	if err != nil {
		return names, err
	}
	left := []string{}
	for _, group := range response.Groups {
		if refused := kerr.ErrorForCode(group.ErrorCode); refused != nil || len(group.Topics) == 0 {
			left, err = append(left, group.Group), refused
			continue
		}
		if found := group.Topics[0].Partitions[0].Offset; found != int64(*partitions-1) {
			return nil, fmt.Errorf("%s has offset %d instead of %d", group.Group, found, *partitions-1)
		}
	}
	return left, err
}
