// franz-go as one of the real clients: calls as JSON lines on stdin, answers on stdout (conversation.py has the list).
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const patience = 100 * time.Second

// record is the conversation's: bytes in base64, null where they are.
type record struct {
	Partition int32             `json:"p"`
	Offset    int64             `json:"o"`
	Timestamp int64             `json:"t"`
	Key       []byte            `json:"k"`
	Value     []byte            `json:"v"`
	Headers   []json.RawMessage `json:"h"`
}

type call struct {
	Call              string            `json:"call"`
	Bootstrap         string            `json:"bootstrap"`
	Topic             string            `json:"topic"`
	Topics            []string          `json:"topics"`
	Compression       string            `json:"compression"`
	Acks              string            `json:"acks"`
	Idempotent        bool              `json:"idempotent"`
	Records           []record          `json:"records"`
	Partition         int32             `json:"partition"`
	Partitions        int32             `json:"partitions"`
	Offset            int64             `json:"offset"`
	Count             int               `json:"count"`
	Timestamp         int64             `json:"timestamp"`
	Group             string            `json:"group"`
	Strategy          string            `json:"strategy"`
	SessionTimeoutMs  int               `json:"session_timeout_ms"`
	ReplicationFactor int16             `json:"replication_factor"`
	Config            map[string]string `json:"config"`
	Before            int64             `json:"before"`
}

type driver struct {
	seeds  []string
	plain  *kgo.Client
	member *member
}

type member struct {
	client    *kgo.Client
	mutex     sync.Mutex
	assigned  map[string]map[int32]bool
	records   []record
	positions map[string]map[int32]kgo.EpochOffset
}

func (d *driver) client(options ...kgo.Opt) (*kgo.Client, error) {
	common := []kgo.Opt{kgo.SeedBrokers(d.seeds...), kgo.MetadataMinAge(250 * time.Millisecond), kgo.MetadataMaxAge(2 * time.Second)}
	return kgo.NewClient(append(common, options...)...)
}

func (d *driver) admin() *kadm.Client { return kadm.NewClient(d.plain) }

func (d *driver) start(c call) (any, error) {
	d.seeds = strings.Split(c.Bootstrap, ",")
	version := "?"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == "github.com/twmb/franz-go" {
				version = strings.TrimPrefix(module.Version, "v")
			}
		}
	}
	var err error
	d.plain, err = d.client()
	return map[string]string{"version": version}, err
}

func (d *driver) produce(ctx context.Context, c call) (any, error) {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	acks := map[string]kgo.Acks{"0": kgo.NoAck(), "1": kgo.LeaderAck(), "all": kgo.AllISRAcks()}
	options := []kgo.Opt{
		kgo.ProducerBatchCompression(codecs[c.Compression]), kgo.RequiredAcks(acks[c.Acks]),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(20 * time.Millisecond),
		kgo.ProducerBatchMaxBytes(1048576 - 1000), kgo.RecordDeliveryTimeout(patience),
	}
	if !c.Idempotent {
		options = append(options, kgo.DisableIdempotentWrite())
	}
	client, err := d.client(options...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	sent := make([]*kgo.Record, len(c.Records))
	for i, one := range c.Records {
		headers := []kgo.RecordHeader{}
		for _, raw := range one.Headers {
			var name string
			var value []byte
			pair := []any{&name, &value}
			if err := json.Unmarshal(raw, &pair); err != nil {
				return nil, err
			}
			headers = append(headers, kgo.RecordHeader{Key: name, Value: value})
		}
		sent[i] = &kgo.Record{
			Topic: c.Topic, Partition: one.Partition, Key: one.Key, Value: one.Value, Headers: headers,
			Timestamp: time.UnixMilli(one.Timestamp),
		}
	}
	if err := client.ProduceSync(ctx, sent...).FirstErr(); err != nil {
		return nil, err
	}
	placed := make([][2]int64, len(sent))
	for i, one := range sent {
		placed[i] = [2]int64{int64(one.Partition), one.Offset}
	}
	return placed, nil
}

func told(one *kgo.Record) record {
	headers := []json.RawMessage{}
	for _, found := range one.Headers {
		raw, _ := json.Marshal([]any{found.Key, found.Value})
		headers = append(headers, raw)
	}
	return record{one.Partition, one.Offset, one.Timestamp.UnixMilli(), one.Key, one.Value, headers}
}

func poll(ctx context.Context, client *kgo.Client, found []record, count int) ([]record, error) {
	for len(found) < count {
		fetches := client.PollRecords(ctx, count-len(found))
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("%d of %d records came: %w", len(found), count, err)
		}
		fetches.EachRecord(func(one *kgo.Record) { found = append(found, told(one)) })
	}
	return found, nil
}

func (d *driver) read(ctx context.Context, c call) (any, error) {
	from := map[string]map[int32]kgo.Offset{c.Topic: {c.Partition: kgo.NewOffset().At(c.Offset)}}
	client, err := d.client(kgo.ConsumePartitions(from))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	return poll(ctx, client, nil, c.Count)
}

func (d *driver) readPaused(ctx context.Context, c call) (any, error) {
	beginning := kgo.NewOffset().AtStart()
	client, err := d.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{c.Topic: {0: beginning, 1: beginning}}))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	paused := map[string][]int32{c.Topic: {0}}
	client.PauseFetchPartitions(paused)
	first, err := poll(ctx, client, nil, c.Count)
	if err != nil {
		return nil, err
	}
	moment, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	client.PollRecords(moment, 1000).EachRecord(func(one *kgo.Record) { first = append(first, told(one)) })
	client.ResumeFetchPartitions(paused)
	second, err := poll(ctx, client, nil, c.Count)
	return map[string]any{"while_paused": first, "after_resume": second}, err
}

func (d *driver) ends(ctx context.Context, c call) (any, error) {
	starts, err := d.admin().ListStartOffsets(ctx, c.Topic)
	if err != nil {
		return nil, err
	}
	ends, err := d.admin().ListEndOffsets(ctx, c.Topic)
	if err != nil {
		return nil, err
	}
	start, _ := starts.Lookup(c.Topic, c.Partition)
	end, _ := ends.Lookup(c.Topic, c.Partition)
	return [2]int64{start.Offset, end.Offset}, nil
}

func (d *driver) offsetForTime(ctx context.Context, c call) (any, error) {
	found, err := d.admin().ListOffsetsAfterMilli(ctx, c.Timestamp, c.Topic)
	if err != nil {
		return nil, err
	}
	offset, _ := found.Lookup(c.Topic, c.Partition)
	return offset.Offset, offset.Err
}

func (d *driver) join(c call) (any, error) {
	m := &member{assigned: map[string]map[int32]bool{}, positions: map[string]map[int32]kgo.EpochOffset{}}
	balancer := kgo.RangeBalancer()
	if c.Strategy == "cooperative" {
		balancer = kgo.CooperativeStickyBalancer()
	}
	client, err := d.client(
		kgo.ConsumerGroup(c.Group), kgo.ConsumeTopics(c.Topics...), kgo.Balancers(balancer), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.HeartbeatInterval(500*time.Millisecond),
		kgo.SessionTimeout(time.Duration(c.SessionTimeoutMs)*time.Millisecond),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, got map[string][]int32) { m.assign(got, true) }),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, lost map[string][]int32) { m.assign(lost, false) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, lost map[string][]int32) { m.assign(lost, false) }),
	)
	if err != nil {
		return nil, err
	}
	m.client, d.member = client, m
	go m.run()
	return nil, nil
}

func (m *member) assign(changed map[string][]int32, have bool) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	for topic, partitions := range changed {
		if m.assigned[topic] == nil {
			m.assigned[topic] = map[int32]bool{}
		}
		for _, partition := range partitions {
			if have {
				m.assigned[topic][partition] = true
			} else {
				delete(m.assigned[topic], partition)
			}
		}
	}
}

func (m *member) run() {
	for {
		fetches := m.client.PollFetches(context.Background())
		if fetches.IsClientClosed() {
			return
		}
		m.mutex.Lock()
		fetches.EachRecord(func(one *kgo.Record) {
			m.records = append(m.records, told(one))
			if m.positions[one.Topic] == nil {
				m.positions[one.Topic] = map[int32]kgo.EpochOffset{}
			}
			m.positions[one.Topic][one.Partition] = kgo.EpochOffset{Epoch: one.LeaderEpoch, Offset: one.Offset + 1}
		})
		m.mutex.Unlock()
	}
}

func (m *member) state() (any, error) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	assignment := [][2]any{}
	for topic, partitions := range m.assigned {
		for partition := range partitions {
			assignment = append(assignment, [2]any{topic, partition})
		}
	}
	records := m.records
	if records == nil {
		records = []record{}
	}
	m.records = nil
	return map[string]any{"assignment": assignment, "records": records}, nil
}

func (m *member) commit(ctx context.Context) (any, error) {
	m.mutex.Lock()
	offsets := map[string]map[int32]kgo.EpochOffset{}
	for topic, partitions := range m.positions {
		offsets[topic] = map[int32]kgo.EpochOffset{}
		for partition, offset := range partitions {
			offsets[topic][partition] = offset
		}
	}
	m.mutex.Unlock()
	var failed error
	m.client.CommitOffsetsSync(ctx, offsets, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, answer *kmsg.OffsetCommitResponse, err error) {
		failed = err
		for _, topic := range answerTopics(answer) {
			for _, partition := range topic.Partitions {
				if failed == nil {
					failed = kerr.ErrorForCode(partition.ErrorCode)
				}
			}
		}
	})
	return nil, failed
}

func answerTopics(answer *kmsg.OffsetCommitResponse) []kmsg.OffsetCommitResponseTopic {
	if answer == nil {
		return nil
	}
	return answer.Topics
}

func (d *driver) administer(ctx context.Context, c call) (any, error) {
	admin := d.admin()
	switch c.Call {
	case "create_topic":
		config := map[string]*string{}
		for key, value := range c.Config {
			config[key] = kadm.StringPtr(value)
		}
		_, err := admin.CreateTopic(ctx, c.Partitions, c.ReplicationFactor, config, c.Topic)
		return nil, err
	case "list_topics":
		found, err := admin.ListTopics(ctx)
		return found.Names(), err
	case "describe_topic":
		found, err := admin.ListTopics(ctx, c.Topic)
		if err != nil {
			return nil, err
		}
		partitions := [][4]any{}
		for _, one := range found[c.Topic].Partitions.Sorted() {
			partitions = append(partitions, [4]any{one.Partition, one.Leader, one.Replicas, one.ISR})
		}
		return partitions, found[c.Topic].Err
	case "delete_topic":
		found, err := admin.DeleteTopics(ctx, c.Topic)
		if err != nil {
			return nil, err
		}
		return nil, found.Error()
	case "add_partitions":
		found, err := admin.UpdatePartitions(ctx, int(c.Partitions), c.Topic)
		if err != nil {
			return nil, err
		}
		return nil, found.Error()
	case "describe_config":
		found, err := admin.DescribeTopicConfigs(ctx, c.Topic)
		if err != nil {
			return nil, err
		}
		config := map[string]string{}
		for _, one := range found[0].Configs {
			config[one.Key] = one.MaybeValue()
		}
		return config, found[0].Err
	case "alter_config":
		changes := []kadm.AlterConfig{}
		for key, value := range c.Config {
			changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: key, Value: kadm.StringPtr(value)})
		}
		found, err := admin.AlterTopicConfigs(ctx, changes, c.Topic)
		if err != nil {
			return nil, err
		}
		return nil, found[0].Err
	case "list_groups":
		found, err := admin.ListGroups(ctx)
		return found.Groups(), err
	case "describe_group":
		found, err := admin.DescribeGroups(ctx, c.Group)
		if err != nil {
			return nil, err
		}
		return map[string]any{"state": found[c.Group].State, "members": len(found[c.Group].Members)}, found[c.Group].Err
	case "delete_group":
		_, err := admin.DeleteGroup(ctx, c.Group)
		return nil, err
	case "delete_records":
		offsets := kadm.Offsets{}
		offsets.Add(kadm.Offset{Topic: c.Topic, Partition: c.Partition, At: c.Before})
		found, err := admin.DeleteRecords(ctx, offsets)
		if err != nil {
			return nil, err
		}
		return nil, found.Error()
	case "describe_cluster":
		found, err := admin.ListBrokers(ctx)
		ids := found.NodeIDs()
		sort.Slice(ids, func(i, j int) bool { return ids[i] < ids[j] })
		return ids, err
	}
	return nil, fmt.Errorf("no call %s", c.Call)
}

func (d *driver) answer(c call) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	switch c.Call {
	case "start":
		return d.start(c)
	case "produce":
		return d.produce(ctx, c)
	case "read":
		return d.read(ctx, c)
	case "read_paused":
		return d.readPaused(ctx, c)
	case "ends":
		return d.ends(ctx, c)
	case "offset_for_time":
		return d.offsetForTime(ctx, c)
	case "join":
		return d.join(c)
	case "state":
		return d.member.state()
	case "commit":
		return d.member.commit(ctx)
	case "leave":
		d.member.client.Close()
		return nil, nil
	}
	return d.administer(ctx, c)
}

func main() {
	d := &driver{}
	lines := bufio.NewReaderSize(os.Stdin, 1<<20)
	answers := json.NewEncoder(os.Stdout)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var c call
		if err := json.Unmarshal(line, &c); err != nil {
			panic(err)
		}
		result, err := d.answer(c)
		if err != nil {
			answers.Encode(map[string]string{"error": err.Error()})
			continue
		}
		answers.Encode(map[string]any{"result": result})
	}
}
