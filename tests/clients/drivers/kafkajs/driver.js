// kafkajs as one of the real clients: calls as JSON lines on stdin, answers on stdout (conversation.py has the list).
'use strict'
const { Kafka, CompressionTypes, CompressionCodecs, ConfigResourceTypes, logLevel } = require('kafkajs')
const lz4 = require('lz4-napi')
const fzstd = require('fzstd')

CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async (encoder) => lz4.compressFrame(encoder.buffer),
  decompress: async (buffer) => lz4.decompressFrame(buffer),
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async () => { throw new Unsupported('no zstd encoder in JavaScript; it reads zstd') },
  decompress: async (buffer) => Buffer.from(fzstd.decompress(buffer)),
})
const CODECS = {
  none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4, zstd: CompressionTypes.ZSTD,
}
const PATIENCE_MS = 60000
const BATCH_BYTES = 800000

class Unsupported extends Error {}

let kafka
let adminClient
let member
let state

const encoded = (bytes) => (bytes === null || bytes === undefined ? null : Buffer.from(bytes).toString('base64'))
const decoded = (text) => (text === null ? null : Buffer.from(text, 'base64'))
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

async function admin () {
  if (!adminClient) {
    adminClient = kafka.admin()
    await adminClient.connect()
  }
  return adminClient
}

function headersOf (pairs) {
  const found = {}
  for (const [name, text] of pairs) {
    if (text === null) throw new Unsupported('cannot write a null header')
    if (name in found) found[name] = [].concat(found[name], [decoded(text)])
    else found[name] = decoded(text)
  }
  return found
}

// kafkajs makes one batch of what it is given at once, however large that is.
function * batches (messages) {
  let batch = []
  let bytes = 0
  for (const message of messages) {
    const size = (message.value ? message.value.length : 0) + 100
    if (batch.length > 0 && bytes + size > BATCH_BYTES) {
      yield batch
      batch = []
      bytes = 0
    }
    batch.push(message)
    bytes += size
  }
  yield batch
}

function told (partition, message) {
  const headers = []
  for (const [name, value] of Object.entries(message.headers || {})) {
    for (const one of Array.isArray(value) ? value : [value]) headers.push([name, encoded(one)])
  }
  return {
    p: partition, o: Number(message.offset), t: Number(message.timestamp),
    k: encoded(message.key), v: encoded(message.value), h: headers,
  }
}

// kafkajs reads in groups only; a group of its own, with every partition sought, is what it has for an assignment.
async function withReader (topic, seeks, onMessage, work) {
  const group = `reader-${process.pid}-${Date.now()}-${Math.random()}`
  const consumer = kafka.consumer({ groupId: group, sessionTimeout: 30000, maxWaitTimeInMs: 300 })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  try {
    const joined = new Promise((resolve) => consumer.on(consumer.events.GROUP_JOIN, resolve))
    await consumer.run({
      autoCommit: false,
      eachBatchAutoResolve: true,
      eachBatch: async ({ batch }) => { for (const message of batch.messages) onMessage(batch.partition, message, consumer) },
    })
    await joined
    for (const [partition, offset] of seeks) consumer.seek({ topic, partition, offset: String(offset) })
    return await work(consumer)
  } finally {
    await consumer.disconnect()
  }
}

async function until (condition, what) {
  const deadline = Date.now() + PATIENCE_MS
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(what())
    await sleep(20)
  }
}

const calls = {
  async start ({ bootstrap }) {
    kafka = new Kafka({
      brokers: bootstrap.split(','), clientId: 'driver', logLevel: logLevel.ERROR,
      retry: { retries: 60, initialRetryTime: 200, maxRetryTime: 1000 }, connectionTimeout: 3000, requestTimeout: 30000,
    })
    return { version: require('kafkajs/package.json').version }
  },

  async produce ({ topic, compression, acks, idempotent, records }) {
    const sent = records.map((one) => ({
      key: decoded(one.k), value: decoded(one.v), partition: one.p, timestamp: String(one.t), headers: headersOf(one.h),
    }))
    const producer = kafka.producer({ idempotent, maxInFlightRequests: 1 })
    await producer.connect()
    const placed = []
    try {
      for (const messages of batches(sent)) {
        const answers = await producer.send({
          topic, messages, compression: CODECS[compression], acks: acks === 'all' ? -1 : Number(acks), timeout: 30000,
        })
        const next = {}
        for (const answer of answers || []) next[answer.partition] = Number(answer.baseOffset)
        for (const message of messages) placed.push([message.partition, next[message.partition]++])
      }
    } finally {
      await producer.disconnect()
    }
    return placed
  },

  async read ({ topic, partition, offset, count }) {
    const found = []
    const take = (from, message) => {
      if (from === partition && Number(message.offset) >= offset) found.push(told(from, message))
    }
    return withReader(topic, [[partition, offset]], take, async () => {
      await until(() => found.length >= count, () => `${found.length} of ${count} records came`)
      // a fetch that was under way when it was sought may bring what comes before or twice
      const unique = new Map(found.map((one) => [one.o, one]))
      return [...unique.values()].sort((a, b) => a.o - b.o).slice(0, count)
    })
  },

  async read_paused ({ topic, count }) {
    let found = []
    let paused = false
    const take = (partition, message) => found.push(told(partition, message))
    const group = `reader-${process.pid}-${Date.now()}`
    const consumer = kafka.consumer({ groupId: group, sessionTimeout: 30000, maxWaitTimeInMs: 300 })
    await consumer.connect()
    await consumer.subscribe({ topics: [topic], fromBeginning: true })
    consumer.on(consumer.events.GROUP_JOIN, () => {
      if (!paused) consumer.pause([{ topic, partitions: [0] }])
      paused = true
    })
    try {
      await consumer.run({
        autoCommit: false,
        eachBatch: async ({ batch }) => { for (const message of batch.messages) take(batch.partition, message) },
      })
      await until(() => found.length >= count, () => `${found.length} of ${count} records came`)
      await sleep(500)
      const whilePaused = found
      found = []
      consumer.resume([{ topic, partitions: [0] }])
      await until(() => found.length >= count, () => `${found.length} of ${count} records came`)
      return { while_paused: whilePaused, after_resume: found }
    } finally {
      await consumer.disconnect()
    }
  },

  async ends ({ topic, partition }) {
    const found = (await (await admin()).fetchTopicOffsets(topic)).find((one) => one.partition === partition)
    return [Number(found.low), Number(found.high)]
  },

  async offset_for_time ({ topic, partition, timestamp }) {
    const found = await (await admin()).fetchTopicOffsetsByTimestamp(topic, timestamp)
    return Number(found.find((one) => one.partition === partition).offset)
  },

  async join ({ group, topics, strategy, session_timeout_ms: sessionTimeout }) {
    if (strategy !== 'range') throw new Unsupported('has no cooperative rebalancing')
    state = { assignment: [], records: [], positions: new Map() }
    member = kafka.consumer({
      groupId: group, sessionTimeout, heartbeatInterval: 500, maxWaitTimeInMs: 300, metadataMaxAge: 2000,
      rebalanceTimeout: 10000,
    })
    member.on(member.events.GROUP_JOIN, ({ payload }) => {
      state.assignment = Object.entries(payload.memberAssignment)
        .flatMap(([topic, partitions]) => partitions.map((partition) => [topic, partition])).sort()
    })
    await member.connect()
    await member.subscribe({ topics, fromBeginning: true })
    await member.run({
      autoCommit: false,
      eachBatch: async ({ batch }) => {
        for (const message of batch.messages) {
          state.records.push(told(batch.partition, message))
          state.positions.set(`${batch.topic}/${batch.partition}`, Number(message.offset) + 1)
        }
      },
    })
    return null
  },

  async state () {
    const records = state.records
    state.records = []
    return { assignment: state.assignment, records }
  },

  async commit () {
    const offsets = [...state.positions].map(([key, offset]) => {
      const at = key.lastIndexOf('/')
      return { topic: key.slice(0, at), partition: Number(key.slice(at + 1)), offset: String(offset) }
    })
    await member.commitOffsets(offsets)
    return null
  },

  async leave () {
    await member.disconnect()
    return null
  },

  async create_topic ({ topic, partitions, replication_factor: replicationFactor, config }) {
    const configEntries = Object.entries(config).map(([name, value]) => ({ name, value }))
    const made = await (await admin()).createTopics({
      topics: [{ topic, numPartitions: partitions, replicationFactor, configEntries }], waitForLeaders: true,
    })
    if (!made) throw new Error(`${topic} exists already`)
    return null
  },

  async list_topics () { return (await (await admin()).listTopics()).sort() },

  async describe_topic ({ topic }) {
    const found = await (await admin()).fetchTopicMetadata({ topics: [topic] })
    return found.topics[0].partitions
      .map((one) => [one.partitionId, one.leader, one.replicas, one.isr]).sort((a, b) => a[0] - b[0])
  },

  async delete_topic ({ topic }) {
    await (await admin()).deleteTopics({ topics: [topic] })
    return null
  },

  async add_partitions ({ topic, partitions }) {
    await (await admin()).createPartitions({ topicPartitions: [{ topic, count: partitions }] })
    return null
  },

  async describe_config ({ topic }) {
    const resources = [{ type: ConfigResourceTypes.TOPIC, name: topic }]
    const found = await (await admin()).describeConfigs({ includeSynonyms: false, resources })
    return Object.fromEntries(found.resources[0].configEntries.map((one) => [one.configName, one.configValue]))
  },

  async alter_config ({ topic, config }) {
    const configEntries = Object.entries(config).map(([name, value]) => ({ name, value }))
    await (await admin()).alterConfigs({ resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configEntries }] })
    return null
  },

  async list_groups () { return (await (await admin()).listGroups()).groups.map((one) => one.groupId).sort() },

  async describe_group ({ group }) {
    const found = (await (await admin()).describeGroups([group])).groups[0]
    return { state: found.state, members: found.members.length }
  },

  async delete_group ({ group }) {
    await (await admin()).deleteGroups([group])
    return null
  },

  async delete_records ({ topic, partition, before }) {
    await (await admin()).fetchTopicOffsets(topic) // it looks for leaders in what it happens to know, and asks nobody
    await (await admin()).deleteTopicRecords({ topic, partitions: [{ partition, offset: String(before) }] })
    return null
  },

  async describe_cluster () { return (await (await admin()).describeCluster()).brokers.map((one) => one.nodeId).sort() },
}

async function answer (line) {
  const call = JSON.parse(line)
  try {
    const result = await calls[call.call](call)
    return { result: result === undefined ? null : result }
  } catch (error) {
    for (let cause = error; cause; cause = cause.cause || cause.originalError) {
      if (cause instanceof Unsupported) return { unsupported: cause.message }
    }
    console.error(error)
    return { error: `${error.name}: ${error.message}` }
  }
}

async function main () {
  for await (const line of require('readline').createInterface({ input: process.stdin })) {
    process.stdout.write(JSON.stringify(await answer(line)) + '\n')
  }
  process.exit(0)
}

main()
