// Command sarama drives sarama.
package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/IBM/sarama"

	"rafka.compat/compat"
)

var codecs = map[string]sarama.CompressionCodec{
	"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
	"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
}

var acks = map[string]sarama.RequiredAcks{
	"0": sarama.NoResponse, "1": sarama.WaitForLocal, "all": sarama.WaitForAll,
}

type driver struct {
	seeds  []string
	client sarama.Client
	admin  sarama.ClusterAdmin
}

func main() { compat.Serve(open, "github.com/IBM/sarama", groups...) }

func config() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.V4_1_0_0
	config.Metadata.Retry.Max = 20
	config.Admin.Timeout = compat.Wait
	config.Consumer.MaxWaitTime = 100 * time.Millisecond
	config.Consumer.Fetch.Default = 20_000_000
	config.Consumer.Return.Errors = true
	return config
}

func open(bootstrap string) (map[string]compat.Operation, error) {
	seeds := strings.Split(bootstrap, ",")
	client, err := sarama.NewClient(seeds, config())
	if err != nil {
		return nil, err
	}
	admin, err := sarama.NewClusterAdminFromClient(client)
	if err != nil {
		return nil, err
	}
	d := &driver{seeds, client, admin}
	return map[string]compat.Operation{
		"create": d.create, "create_many": d.createMany, "delete": d.remove, "topics": d.topics,
		"partitions": d.partitions, "get_configs": d.getConfigs, "set_config": d.setConfig,
		"add_partitions": d.addPartitions, "delete_records": d.deleteRecords, "offsets": d.offsets,
		"offset_at": d.offsetAt, "log_dirs": d.logDirs, "produce": d.produce, "produce_until": d.produceUntil,
		"read": d.read, "join": d.join, "seen": d.seen, "commit": d.commit, "leave": d.leave, "groups": d.list,
		"group": d.group, "committed": d.committed, "reset": d.reset, "forget": d.forget, "delete_group": d.deleteGroup,
	}, nil
}

func (d *driver) create(r compat.Request) (compat.Reply, error) {
	partitions, err := r.Number()
	if err != nil {
		return nil, err
	}
	configs := map[string]*string{}
	for name, value := range r.Configs {
		configs[name] = &value
	}
	detail := &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1, ConfigEntries: configs}
	return nil, d.admin.CreateTopic(r.Topic, detail, false)
}

func (d *driver) createMany(r compat.Request) (compat.Reply, error) {
	for _, topic := range r.Topics {
		if err := d.admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, false); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func (d *driver) remove(r compat.Request) (compat.Reply, error) {
	return nil, d.admin.DeleteTopic(r.Topic)
}

func (d *driver) topics(compat.Request) (compat.Reply, error) {
	found, err := d.admin.ListTopics()
	names := make([]string, 0, len(found))
	for name := range found {
		names = append(names, name)
	}
	return compat.Reply{"topics": names}, err
}

func (d *driver) partitions(r compat.Request) (compat.Reply, error) {
	found, err := d.admin.DescribeTopics([]string{r.Topic})
	if err != nil {
		return nil, err
	}
	if found[0].Err != sarama.ErrNoError {
		return nil, found[0].Err
	}
	return compat.Reply{"count": len(found[0].Partitions)}, nil
}

func (d *driver) getConfigs(r compat.Request) (compat.Reply, error) {
	found, err := d.admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: r.Topic})
	configs := map[string]string{}
	for _, entry := range found {
		configs[entry.Name] = entry.Value
	}
	return compat.Reply{"configs": configs}, err
}

func (d *driver) setConfig(r compat.Request) (compat.Reply, error) {
	change := map[string]sarama.IncrementalAlterConfigsEntry{
		r.Name: {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &r.Value},
	}
	return nil, d.admin.IncrementalAlterConfig(sarama.TopicResource, r.Topic, change, false)
}

func (d *driver) addPartitions(r compat.Request) (compat.Reply, error) {
	return nil, d.admin.CreatePartitions(r.Topic, int32(r.Count), nil, false)
}

func (d *driver) deleteRecords(r compat.Request) (compat.Reply, error) {
	return nil, d.admin.DeleteRecords(r.Topic, map[int32]int64{r.Partition: *r.Offset})
}

func (d *driver) offsets(r compat.Request) (compat.Reply, error) {
	earliest, err := d.client.GetOffset(r.Topic, r.Partition, sarama.OffsetOldest)
	if err != nil {
		return nil, err
	}
	latest, err := d.client.GetOffset(r.Topic, r.Partition, sarama.OffsetNewest)
	return compat.Reply{"earliest": earliest, "latest": latest}, err
}

func (d *driver) offsetAt(r compat.Request) (compat.Reply, error) {
	offset, err := d.client.GetOffset(r.Topic, r.Partition, r.Time)
	return compat.Reply{"offset": offset}, err
}

func (d *driver) logDirs(r compat.Request) (compat.Reply, error) {
	ids := []int32{}
	for _, broker := range d.client.Brokers() {
		ids = append(ids, broker.ID())
	}
	found, err := d.admin.DescribeLogDirs(ids)
	if err != nil {
		return nil, err
	}
	bytes := int64(0)
	for _, dirs := range found {
		for _, dir := range dirs {
			for _, topic := range dir.Topics {
				for _, partition := range topic.Partitions {
					if topic.Topic == r.Topic {
						bytes += partition.Size
					}
				}
			}
		}
	}
	return compat.Reply{"bytes": bytes}, nil
}

func producing(codec, ack string, idempotent bool) *sarama.Config {
	config := config()
	config.Producer.Compression = codecs[codec]
	config.Producer.RequiredAcks = acks[ack]
	config.Producer.Idempotent = idempotent
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.MaxMessageBytes = 20_000_000
	config.Producer.Return.Successes = true
	config.Producer.Retry.Max = 100
	config.Producer.Flush.Frequency = 5 * time.Millisecond
	if idempotent {
		config.Net.MaxOpenRequests = 1
	}
	return config
}

func (d *driver) produce(r compat.Request) (compat.Reply, error) {
	producer, err := sarama.NewSyncProducer(d.seeds, producing(r.Codec, r.Acks, r.Idempotent))
	if err != nil {
		return nil, err
	}
	defer producer.Close()
	messages := make([]*sarama.ProducerMessage, 0, len(r.Records))
	for _, record := range r.Records {
		message := &sarama.ProducerMessage{
			Topic: r.Topic, Partition: record.Partition, Timestamp: time.UnixMilli(record.Timestamp),
		}
		if record.Key != nil {
			message.Key = sarama.StringEncoder(*record.Key)
		}
		if record.Value != nil {
			message.Value = sarama.StringEncoder(*record.Value)
		}
		for _, header := range record.Headers {
			message.Headers = append(message.Headers, sarama.RecordHeader{Key: []byte(header[0]), Value: []byte(header[1])})
		}
		messages = append(messages, message)
	}
	return nil, producer.SendMessages(messages)
}

func (d *driver) produceUntil(r compat.Request) (compat.Reply, error) {
	producer, err := sarama.NewAsyncProducer(d.seeds, producing("none", "all", true))
	if err != nil {
		return nil, err
	}
	outcomes := make(chan error, 1<<20)
	go func() {
		for range producer.Successes() {
			outcomes <- nil
		}
	}()
	go func() {
		for err := range producer.Errors() {
			outcomes <- err.Err
		}
	}()
	sent, _ := compat.Until(r.File, func(n int) error {
		producer.Input() <- &sarama.ProducerMessage{
			Topic: r.Topic, Partition: 0, Key: sarama.StringEncoder("key"), Value: sarama.StringEncoder(strconv.Itoa(n)),
		}
		time.Sleep(time.Millisecond)
		return nil
	})
	// A producer that is being closed tries nothing again.
	defer producer.AsyncClose()
	end := time.After(compat.Wait)
	for acked := 0; acked < sent; acked++ {
		select {
		case err := <-outcomes:
			if err != nil {
				return nil, fmt.Errorf("record %d of %d: %w", acked, sent, err)
			}
		case <-end:
			return nil, fmt.Errorf("%d of %d records acknowledged in time", acked, sent)
		}
	}
	return compat.Reply{"sent": sent}, nil
}

func (d *driver) read(r compat.Request) (compat.Reply, error) {
	partitions, err := r.List()
	if err != nil {
		return nil, err
	}
	consumer, err := sarama.NewConsumer(d.seeds, config())
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	at := sarama.OffsetOldest
	if r.Offset != nil {
		at = *r.Offset
	}
	found, failed := make(chan *sarama.ConsumerMessage), make(chan error)
	over := make(chan struct{})
	defer close(over)
	for _, partition := range partitions {
		claim, err := consumer.ConsumePartition(r.Topic, partition, at)
		if err != nil {
			return nil, err
		}
		defer claim.AsyncClose()
		go func() {
			for {
				select {
				case message := <-claim.Messages():
					select {
					case found <- message:
					case <-over:
						return
					}
				case err := <-claim.Errors():
					select {
					case failed <- err:
					case <-over:
						return
					}
				case <-over:
					return
				}
			}
		}()
	}
	records, end := []compat.Record{}, time.After(time.Duration(r.WaitMs)*time.Millisecond)
	for len(records) < r.Count {
		select {
		case message := <-found:
			records = append(records, plain(message))
		case err := <-failed:
			return nil, err
		case <-end:
			return compat.Reply{"records": records}, nil
		}
	}
	return compat.Reply{"records": records}, nil
}

func plain(message *sarama.ConsumerMessage) compat.Record {
	headers := [][2]string{}
	for _, header := range message.Headers {
		headers = append(headers, [2]string{string(header.Key), string(header.Value)})
	}
	return compat.Record{
		Partition: message.Partition, Offset: message.Offset, Key: compat.Text(message.Key),
		Value: compat.Text(message.Value), Headers: headers, Timestamp: message.Timestamp.UnixMilli(),
	}
}
