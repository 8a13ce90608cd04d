// Command franz drives franz-go.
package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"rafka.compat/compat"
)

var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
	"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

var acks = map[string]kgo.Acks{"0": kgo.NoAck(), "1": kgo.LeaderAck(), "all": kgo.AllISRAcks()}

type driver struct {
	seeds []string
	admin *kadm.Client
}

func main() { compat.Serve(open, "github.com/twmb/franz-go", groups...) }

func open(bootstrap string) (map[string]compat.Operation, error) {
	seeds := strings.Split(bootstrap, ",")
	client, err := kgo.NewClient(kgo.SeedBrokers(seeds...), kgo.MetadataMinAge(50*time.Millisecond))
	if err != nil {
		return nil, err
	}
	d := &driver{seeds, kadm.NewClient(client)}
	d.admin.SetTimeoutMillis(int32(compat.Wait.Milliseconds()))
	return map[string]compat.Operation{
		"create": d.create, "create_many": d.createMany, "delete": d.remove, "topics": d.topics,
		"partitions": d.partitions, "get_configs": d.getConfigs, "set_config": d.setConfig,
		"add_partitions": d.addPartitions, "delete_records": d.deleteRecords, "offsets": d.offsets,
		"offset_at": d.offsetAt, "log_dirs": d.logDirs, "produce": d.produce, "produce_until": d.produceUntil,
		"read": d.read, "join": d.join, "seen": d.seen, "commit": d.commit, "seek": d.seek, "leave": d.leave,
		"groups": d.list, "group": d.group, "committed": d.committed, "reset": d.reset, "forget": d.forget,
		"delete_group": d.deleteGroup,
	}, nil
}

func wait() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), compat.Wait)
}

func (d *driver) create(r compat.Request) (compat.Reply, error) {
	ctx, done := wait()
	defer done()
	partitions, err := r.Number()
	if err != nil {
		return nil, err
	}
	configs := map[string]*string{}
	for name, value := range r.Configs {
		configs[name] = &value
	}
	_, err = d.admin.CreateTopic(ctx, partitions, 1, configs, r.Topic)
	return nil, err
}

func (d *driver) createMany(r compat.Request) (compat.Reply, error) {
	ctx, done := wait()
	defer done()
	found, err := d.admin.CreateTopics(ctx, 1, 1, nil, r.Topics...)
	if err != nil {
		return nil, err
	}
	return nil, found.Error()
}

func (d *driver) remove(r compat.Request) (compat.Reply, error) {
	ctx, done := wait()
	defer done()
	_, err := d.admin.DeleteTopic(ctx, r.Topic)
	return nil, err
}

func (d *driver) topics(compat.Request) (compat.Reply, error) {
	ctx, done := wait()
	defer done()
	found, err := d.admin.ListTopics(ctx)
	return compat.Reply{"topics": found.Names()}, err
}

func (d *driver) partitions(r compat.Request) (compat.Reply, error) {
	ctx, done := wait()
	defer done()
	found, err := d.admin.ListTopics(ctx, r.Topic)
	return compat.Reply{"count": len(found[r.Topic].Partitions)}, err
}

func (d *driver) getConfigs(r compat.Request) (compat.Reply, error) {
	ctx, done := wait()
	defer done()
	found, err := d.admin.DescribeTopicConfigs(ctx, r.Topic)
	if err != nil {
		return nil, err
	}
	resource, err := found.On(r.Topic, nil)
	if err == nil {
		err = resource.Err
	}
	configs := map[string]*string{}
	for _, config := range resource.Configs {
		configs[config.Key] = config.Value
	}
	return compat.Reply{"configs": configs}, err
}

func (d *driver) setConfig(r compat.Request) (compat.Reply, error) {
	ctx, done := wait()
	defer done()
	change := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: r.Name, Value: &r.Value}}
	found, err := d.admin.AlterTopicConfigs(ctx, change, r.Topic)
	if err != nil {
		return nil, err
	}
	resource, err := found.On(r.Topic, nil)
	if err == nil {
		err = resource.Err
	}
	return nil, err
}

func (d *driver) addPartitions(r compat.Request) (compat.Reply, error) {
	ctx, done := wait()
	defer done()
	found, err := d.admin.UpdatePartitions(ctx, r.Count, r.Topic)
	if err != nil {
		return nil, err
	}
	return nil, found.Error()
}

func (d *driver) deleteRecords(r compat.Request) (compat.Reply, error) {
	ctx, done := wait()
	defer done()
	offsets := kadm.Offsets{}
	offsets.AddOffset(r.Topic, r.Partition, *r.Offset, -1)
	found, err := d.admin.DeleteRecords(ctx, offsets)
	if err != nil {
		return nil, err
	}
	return nil, found.Error()
}

func (d *driver) offsets(r compat.Request) (compat.Reply, error) {
	ctx, done := wait()
	defer done()
	earliest, err := d.admin.ListStartOffsets(ctx, r.Topic)
	if err != nil {
		return nil, err
	}
	latest, err := d.admin.ListEndOffsets(ctx, r.Topic)
	if err != nil {
		return nil, err
	}
	from, _ := earliest.Lookup(r.Topic, r.Partition)
	to, _ := latest.Lookup(r.Topic, r.Partition)
	if from.Err != nil || to.Err != nil {
		return nil, firstOf(from.Err, to.Err)
	}
	return compat.Reply{"earliest": from.Offset, "latest": to.Offset}, nil
}

func (d *driver) offsetAt(r compat.Request) (compat.Reply, error) {
	ctx, done := wait()
	defer done()
	found, err := d.admin.ListOffsetsAfterMilli(ctx, r.Time, r.Topic)
	if err != nil {
		return nil, err
	}
	at, _ := found.Lookup(r.Topic, r.Partition)
	return compat.Reply{"offset": at.Offset}, at.Err
}

func (d *driver) logDirs(r compat.Request) (compat.Reply, error) {
	ctx, done := wait()
	defer done()
	found, err := d.admin.DescribeAllLogDirs(ctx, nil)
	if err != nil {
		return nil, err
	}
	bytes := int64(0)
	found.Each(func(dir kadm.DescribedLogDir) {
		for _, partition := range dir.Topics[r.Topic] {
			bytes += partition.Size
		}
	})
	return compat.Reply{"bytes": bytes}, nil
}

func (d *driver) producer(codec, ack string, idempotent bool) (*kgo.Client, error) {
	options := []kgo.Opt{
		kgo.SeedBrokers(d.seeds...), kgo.ProducerBatchCompression(codecs[codec]), kgo.RequiredAcks(acks[ack]),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.AllowAutoTopicCreation(), kgo.ProducerBatchMaxBytes(20_000_000),
		kgo.MetadataMinAge(50 * time.Millisecond),
		kgo.BrokerMaxWriteBytes(100_000_000),
	}
	if !idempotent {
		options = append(options, kgo.DisableIdempotentWrite())
	}
	return kgo.NewClient(options...)
}

func (d *driver) produce(r compat.Request) (compat.Reply, error) {
	ctx, done := wait()
	defer done()
	client, err := d.producer(r.Codec, r.Acks, r.Idempotent)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	records := make([]*kgo.Record, 0, len(r.Records))
	for _, record := range r.Records {
		headers := make([]kgo.RecordHeader, 0, len(record.Headers))
		for _, header := range record.Headers {
			headers = append(headers, kgo.RecordHeader{Key: header[0], Value: []byte(header[1])})
		}
		records = append(records, &kgo.Record{
			Topic: r.Topic, Partition: record.Partition, Key: compat.Data(record.Key), Value: compat.Data(record.Value),
			Headers: headers, Timestamp: time.UnixMilli(record.Timestamp),
		})
	}
	return nil, client.ProduceSync(ctx, records...).FirstErr()
}

func (d *driver) produceUntil(r compat.Request) (compat.Reply, error) {
	client, err := d.producer("none", "all", true)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	failed := make(chan error, 1)
	sent, _ := compat.Until(r.File, func(n int) error {
		record := &kgo.Record{Topic: r.Topic, Partition: 0, Key: []byte("key"), Value: []byte(strconv.Itoa(n))}
		client.Produce(context.Background(), record, func(_ *kgo.Record, err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
		time.Sleep(time.Millisecond)
		return nil
	})
	ctx, done := wait()
	defer done()
	if err := client.Flush(ctx); err != nil {
		return nil, err
	}
	select {
	case err := <-failed:
		return nil, err
	default:
		return compat.Reply{"sent": sent}, nil
	}
}

func (d *driver) read(r compat.Request) (compat.Reply, error) {
	partitions, err := r.List()
	if err != nil {
		return nil, err
	}
	at := kgo.NewOffset().AtStart()
	if r.Offset != nil {
		at = kgo.NewOffset().At(*r.Offset)
	}
	from := map[int32]kgo.Offset{}
	for _, partition := range partitions {
		from[partition] = at
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(d.seeds...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{r.Topic: from}),
		kgo.FetchMaxWait(100*time.Millisecond), kgo.FetchMaxPartitionBytes(20_000_000),
	)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, done := context.WithTimeout(context.Background(), time.Duration(r.WaitMs)*time.Millisecond)
	defer done()
	records := []compat.Record{}
	for len(records) < r.Count && ctx.Err() == nil {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil && ctx.Err() == nil {
			return nil, err
		}
		fetches.EachRecord(func(record *kgo.Record) {
			headers := [][2]string{}
			for _, header := range record.Headers {
				headers = append(headers, [2]string{header.Key, string(header.Value)})
			}
			records = append(records, compat.Record{
				Partition: record.Partition, Offset: record.Offset, Key: compat.Text(record.Key),
				Value: compat.Text(record.Value), Headers: headers, Timestamp: record.Timestamp.UnixMilli(),
			})
		})
	}
	return compat.Reply{"records": records}, nil
}

func firstOf(errors ...error) error {
	for _, err := range errors {
		if err != nil {
			return err
		}
	}
	return nil
}
