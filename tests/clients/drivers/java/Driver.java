// Kafka's own client as one of the real clients: calls as JSON lines on stdin, answers on stdout (conversation.py).

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.utils.AppInfoParser;

public class Driver {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Duration PATIENCE = Duration.ofSeconds(60);
    private static final String END = "";

    private Map<String, Object> common;
    private Admin admin;
    private KafkaConsumer<byte[], byte[]> member;
    private List<Object> records = new ArrayList<>();
    private final Map<TopicPartition, OffsetAndMetadata> positions = new HashMap<>();

    public static void main(String[] arguments) throws Exception {
        PrintStream answers = new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);
        System.setOut(System.err);
        BlockingQueue<String> calls = new ArrayBlockingQueue<>(100);
        Thread reader = new Thread(() -> {
            try (BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
                for (String line = in.readLine(); line != null; line = in.readLine()) calls.put(line);
                calls.put(END);
            } catch (Exception error) {
                error.printStackTrace();
            }
        });
        reader.setDaemon(true);
        reader.start();
        Driver driver = new Driver();
        while (true) {
            String line = driver.member == null ? calls.take() : calls.poll();
            if (line == null) {
                driver.poll();
            } else if (line.equals(END)) {
                Runtime.getRuntime().halt(0);
            } else {
                answers.println(JSON.writeValueAsString(driver.answer(JSON.readTree(line))));
            }
        }
    }

    private Map<String, Object> answer(JsonNode call) {
        Map<String, Object> answer = new LinkedHashMap<>();
        try {
            answer.put("result", result(call));
        } catch (ExecutionException error) {
            error.printStackTrace();
            answer.put("error", String.valueOf(error.getCause()));
        } catch (Exception error) {
            error.printStackTrace();
            answer.put("error", String.valueOf(error));
        }
        return answer;
    }

    private Object result(JsonNode call) throws Exception {
        String topic = call.path("topic").asText();
        int partition = call.path("partition").asInt();
        switch (call.get("call").asText()) {
            case "start": return start(call.get("bootstrap").asText());
            case "produce": return produce(call);
            case "read": return read(new TopicPartition(topic, partition), call.get("offset").asLong(), call.get("count").asInt());
            case "read_paused": return readPaused(topic, call.get("count").asInt());
            case "ends": return ends(new TopicPartition(topic, partition));
            case "offset_for_time": return offsetForTime(new TopicPartition(topic, partition), call.get("timestamp").asLong());
            case "join": return join(call);
            case "state": return state();
            case "commit": member.commitSync(positions); return null;
            case "leave": member.close(); member = null; return null;
            default: return administer(call, topic, partition);
        }
    }

    private Object start(String bootstrap) {
        common = Map.of("bootstrap.servers", bootstrap, "metadata.max.age.ms", 2000);
        admin = Admin.create(common);
        return Map.of("version", AppInfoParser.getVersion());
    }

    private Map<String, Object> with(Object... more) {
        Map<String, Object> found = new HashMap<>(common);
        for (int i = 0; i < more.length; i += 2) found.put((String) more[i], more[i + 1]);
        return found;
    }

    private Object produce(JsonNode call) throws Exception {
        Map<String, Object> config = with(
            "compression.type", call.get("compression").asText(), "acks", call.get("acks").asText(),
            "enable.idempotence", call.get("idempotent").asBoolean(), "linger.ms", 20,
            "delivery.timeout.ms", 100_000, "request.timeout.ms", 30_000);
        try (KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer())) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (JsonNode one : call.get("records")) {
                List<Header> headers = new ArrayList<>();
                for (JsonNode pair : one.get("h")) headers.add(new RecordHeader(pair.get(0).asText(), decoded(pair.get(1))));
                Integer partition = one.get("p").isNull() ? null : one.get("p").asInt();
                sent.add(producer.send(new ProducerRecord<>(
                    call.get("topic").asText(), partition, one.get("t").asLong(), decoded(one.get("k")), decoded(one.get("v")), headers)));
            }
            producer.flush();
            List<Object> placed = new ArrayList<>();
            for (Future<RecordMetadata> one : sent) placed.add(List.of(one.get().partition(), one.get().offset()));
            return placed;
        }
    }

    private KafkaConsumer<byte[], byte[]> consumer(Object... more) {
        return new KafkaConsumer<>(with(more), new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private static List<Object> consume(KafkaConsumer<byte[], byte[]> consumer, int count) {
        List<Object> found = new ArrayList<>();
        long deadline = System.nanoTime() + PATIENCE.toNanos();
        while (found.size() < count) {
            for (ConsumerRecord<byte[], byte[]> one : consumer.poll(Duration.ofMillis(200))) found.add(told(one));
            if (System.nanoTime() > deadline) throw new IllegalStateException(found.size() + " of " + count + " records came");
        }
        return found;
    }

    private Object read(TopicPartition partition, long offset, int count) {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("enable.auto.commit", false)) {
            consumer.assign(List.of(partition));
            consumer.seek(partition, offset);
            return consume(consumer, count).subList(0, count);
        }
    }

    private Object readPaused(String topic, int count) {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("enable.auto.commit", false)) {
            List<TopicPartition> partitions = List.of(new TopicPartition(topic, 0), new TopicPartition(topic, 1));
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            consumer.pause(partitions.subList(0, 1));
            List<Object> first = consume(consumer, count);
            for (ConsumerRecord<byte[], byte[]> one : consumer.poll(Duration.ofMillis(500))) first.add(told(one));
            consumer.resume(partitions.subList(0, 1));
            return Map.of("while_paused", first, "after_resume", consume(consumer, count));
        }
    }

    private Object ends(TopicPartition partition) {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            return List.of(consumer.beginningOffsets(List.of(partition)).get(partition),
                consumer.endOffsets(List.of(partition)).get(partition));
        }
    }

    private Object offsetForTime(TopicPartition partition, long timestamp) {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            return consumer.offsetsForTimes(Map.of(partition, timestamp)).get(partition).offset();
        }
    }

    private Object join(JsonNode call) {
        String assignor = call.get("strategy").asText().equals("cooperative")
            ? "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"
            : "org.apache.kafka.clients.consumer.RangeAssignor";
        member = consumer("group.id", call.get("group").asText(), "auto.offset.reset", "earliest", "enable.auto.commit", false,
            "session.timeout.ms", call.get("session_timeout_ms").asInt(), "heartbeat.interval.ms", 500,
            "partition.assignment.strategy", assignor);
        List<String> topics = new ArrayList<>();
        call.get("topics").forEach(one -> topics.add(one.asText()));
        member.subscribe(topics);
        return null;
    }

    private void poll() {
        for (ConsumerRecord<byte[], byte[]> one : member.poll(Duration.ofMillis(50))) {
            records.add(told(one));
            positions.put(new TopicPartition(one.topic(), one.partition()), new OffsetAndMetadata(one.offset() + 1));
        }
    }

    private Object state() {
        List<Object> assignment = new ArrayList<>();
        for (TopicPartition one : member.assignment()) assignment.add(List.of(one.topic(), one.partition()));
        Map<String, Object> state = Map.of("assignment", assignment, "records", records);
        records = new ArrayList<>();
        return state;
    }

    private Object administer(JsonNode call, String topic, int partition) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        String group = call.path("group").asText();
        switch (call.get("call").asText()) {
            case "create_topic":
                NewTopic wanted = new NewTopic(topic, call.get("partitions").asInt(), (short) call.get("replication_factor").asInt());
                admin.createTopics(List.of(wanted.configs(textMap(call.get("config"))))).all().get();
                return null;
            case "list_topics": return new TreeSet<>(admin.listTopics().names().get());
            case "describe_topic":
                return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().stream()
                    .map(one -> Arrays.asList(one.partition(), one.leader() == null ? -1 : one.leader().id(), ids(one.replicas()), ids(one.isr())))
                    .collect(Collectors.toList());
            case "delete_topic": admin.deleteTopics(List.of(topic)).all().get(); return null;
            case "add_partitions":
                admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(call.get("partitions").asInt()))).all().get();
                return null;
            case "describe_config":
                Map<String, String> config = new TreeMap<>();
                for (ConfigEntry one : admin.describeConfigs(List.of(resource)).all().get().get(resource).entries())
                    config.put(one.name(), one.value());
                return config;
            case "alter_config":
                Collection<AlterConfigOp> changes = textMap(call.get("config")).entrySet().stream()
                    .map(one -> new AlterConfigOp(new ConfigEntry(one.getKey(), one.getValue()), AlterConfigOp.OpType.SET))
                    .collect(Collectors.toList());
                admin.incrementalAlterConfigs(Map.of(resource, changes)).all().get();
                return null;
            case "list_groups":
                return admin.listGroups().all().get().stream().map(one -> one.groupId()).sorted().collect(Collectors.toList());
            case "describe_group":
                var described = admin.describeClassicGroups(List.of(group)).all().get().get(group);
                return Map.of("state", described.state().toString(), "members", described.members().size());
            case "delete_group": admin.deleteConsumerGroups(List.of(group)).all().get(); return null;
            case "delete_records":
                admin.deleteRecords(Map.of(new TopicPartition(topic, partition), RecordsToDelete.beforeOffset(call.get("before").asLong())))
                    .all().get();
                return null;
            case "describe_cluster":
                return ids(admin.describeCluster().nodes().get()).stream().sorted().collect(Collectors.toList());
            default: throw new IllegalArgumentException("no call " + call.get("call"));
        }
    }

    private static List<Integer> ids(Collection<Node> nodes) {
        return nodes.stream().map(Node::id).collect(Collectors.toList());
    }

    private static Map<String, String> textMap(JsonNode node) {
        Map<String, String> found = new HashMap<>();
        node.fields().forEachRemaining(one -> found.put(one.getKey(), one.getValue().asText()));
        return found;
    }

    private static Map<String, Object> told(ConsumerRecord<byte[], byte[]> one) {
        List<Object> headers = new ArrayList<>();
        for (Header header : one.headers()) headers.add(Arrays.asList(header.key(), encoded(header.value())));
        Map<String, Object> found = new LinkedHashMap<>();
        found.put("p", one.partition());
        found.put("o", one.offset());
        found.put("t", one.timestamp());
        found.put("k", encoded(one.key()));
        found.put("v", encoded(one.value()));
        found.put("h", headers);
        return found;
    }

    private static String encoded(byte[] content) {
        return content == null ? null : Base64.getEncoder().encodeToString(content);
    }

    private static byte[] decoded(JsonNode text) {
        return text.isNull() ? null : Base64.getDecoder().decode(text.asText());
    }
}
