// A peer of the network on js-libp2p, written from docs/wire.md. One line of JSON in for each thing
// to do, one out with its answer, and one for each thing that happens. Driven by tests/e2e/js_peers.py.
import { randomBytes } from 'node:crypto'
import { createInterface } from 'node:readline'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { gossipsub, TopicValidatorResult } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import {
  GOSSIP_BYTES_MAX, decode, firstPut, frame, genesis, keyOf, networkId, packItem, readFrame, readGossip,
  readItem, sha3, smallestModel, encode
} from './wire.mjs'

const PAGE_BYTES_MAX = 256 * 1024
const STREAM_BYTES_MAX = 1024 * 1024
const REFUSED = Buffer.from('ffffffff', 'hex')
const network = networkId(process.argv[2])
const NET = network.toString('hex').slice(0, 16)
const OPS = `/hansa/${NET}/ops/0`
const SYNC = `/hansa/${NET}/sync/0`

const say = what => console.log(JSON.stringify(what))
const hex = raw => Buffer.from(raw).toString('hex')
const shown = ({ kind, id, slug }) => ({ kind, id: hex(id), slug })

// The store: items in order of arrival. Its epoch names it; a number is a place in it, from 1.
const epoch = randomBytes(16)
const arrived = []
const known = new Map()

function keep (raw) {
  const item = readItem(raw, network)
  if (known.has(hex(item.id))) return
  known.set(hex(item.id), item)
  arrived.push(item)
}

function answer (request) {
  const [tag, ...fields] = readFrame(request, network)
  if (tag === 'after') return page(...fields)
  if (tag === 'fetch') {
    const ids = fields[0].map(hex)
    const found = within(ids.filter(id => known.has(id)).map(id => known.get(id)))
    return frame(network, 'items', found.map(one => one.raw), fields[0].filter(id => !known.has(hex(id))))
  }
  throw new Error(`a request ${tag}`)
}

function page (of, after, mode) {
  const start = epoch.equals(of) ? after : 0
  const left = arrived.slice(start)
  const part = mode === 1 ? left.slice(0, 4096) : within(left)
  const next = start + part.length
  const [items, ids] = mode === 1 ? [[], part.map(one => one.id)] : [part.map(one => one.raw), []]
  return frame(network, 'page', epoch, next, arrived.length, next >= arrived.length, items, ids)
}

function within (items) {
  let room = PAGE_BYTES_MAX
  const end = items.findIndex(one => (room -= one.raw.length) < 0)
  return items.slice(0, end < 0 ? items.length : Math.max(end, 1))
}

// Streams: u32 and a request, u32 and its answer, again and again

class Exchange {
  constructor (stream) {
    this.stream = stream
    this.parts = stream[Symbol.asyncIterator]()
    this.held = Buffer.alloc(0)
  }

  async read (length) {
    while (this.held.length < length) {
      const { value, done } = await this.parts.next()
      if (done) throw new Error(`the stream ended after ${this.held.length} of ${length} bytes`)
      this.held = Buffer.concat([this.held, value.subarray()])
    }
    const found = this.held.subarray(0, length)
    this.held = this.held.subarray(length)
    return found
  }

  async readFrame () {
    const header = await this.read(4)
    if (header.equals(REFUSED)) return null
    const length = header.readUInt32BE()
    if (length > STREAM_BYTES_MAX) throw new Error(`${length} bytes are announced`)
    return this.read(length)
  }

  async send (raw) {
    const header = Buffer.alloc(4)
    header.writeUInt32BE(raw.length)
    if (!this.stream.send(Buffer.concat([header, raw]))) await this.stream.onDrain()
  }
}

async function serve (stream) {
  const exchange = new Exchange(stream)
  try {
    for (;;) {
      const request = await exchange.readFrame()
      say({ event: 'asked', tag: decode(request)[0] })
      await exchange.send(answer(request))
    }
  } catch (error) {
    await stream.close().catch(() => {})
  }
}

// The host

const gossip = gossipsub({ globalSignaturePolicy: 'StrictSign', allowPublishToZeroTopicPeers: true })
const host = await createLibp2p({
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: { identify: identify(), ping: ping(), pubsub: gossip }
})
const { pubsub } = host.services
let sync = null // the stream on which this peer asks; one serves for all requests

host.addEventListener('peer:identify', ({ detail }) => say({ event: 'identified', protocols: detail.protocols }))
host.addEventListener('peer:disconnect', () => say({ event: 'disconnected' }))
pubsub.addEventListener('gossipsub:graft', ({ detail }) => say({ event: 'grafted', topic: detail.topic }))
pubsub.addEventListener('subscription-change', ({ detail }) => say({
  event: 'subscribed', topics: detail.subscriptions.filter(one => one.subscribe).map(one => one.topic)
}))
pubsub.topicValidators.set(OPS, (peer, message) => {
  const why = judge(message.data)
  if (why) say({ event: 'rejected', why })
  return why ? TopicValidatorResult.Reject : TopicValidatorResult.Accept
})
pubsub.addEventListener('message', ({ detail }) => {
  if (detail.topic !== OPS) return
  const { tag, items = [], ids = [] } = readGossip(detail.data, network)
  for (const item of items) keep(item.raw)
  say({ event: 'gossip', tag, items: items.map(shown), ids: ids.map(hex) })
})
await host.handle(SYNC, serve)
pubsub.subscribe(OPS)

async function request (raw) {
  if (!sync || sync.stream.status !== 'open') {
    sync = new Exchange(await host.dialProtocol(host.getPeers()[0], SYNC))
  }
  await sync.send(raw)
  return sync.readFrame()
}

// An account and its first model, signed here.
function make ({ root, slug, of = network, spoil = '' }) {
  const key = keyOf(Buffer.from(root, 'hex'))
  const opening = genesis(of, key, keyOf(sha3(key.public)))
  const account = sha3(decode(opening)[2])
  const body = smallestModel(slug)
  let { record, raw } = firstPut(of, { account, root: key, slug, body, timestamp: 1_800_000_000 })
  if (spoil === 'signature') raw = encode(decode(raw).with(3, Buffer.alloc(64, 1)))
  if (spoil === 'size') raw = packItem(2, decode(raw)[2], key, Buffer.alloc(70_000))
  return { items: [opening, raw], account: hex(account), record: hex(record), id: hex(sha3(decode(raw)[2])) }
}

function judge (raw) {
  try {
    readGossip(raw, network)
    return ''
  } catch (error) {
    return error.message
  }
}

async function publish (raw) {
  const { recipients } = await pubsub.publish(OPS, raw)
  return recipients.length
}

const actions = {
  dial: async ({ address }) => {
    const connection = await host.dial(multiaddr(address))
    return { encryption: connection.encryption, multiplexer: connection.multiplexer }
  },
  ping: async () => ({ ms: await host.services.ping.ping(host.getPeers()[0]) }),
  // Sign an account and a model, and gossip them, or only keep them to be asked for.
  write: async ({ root, slug, gossiped }) => {
    const { items, ...made } = make({ root, slug })
    items.forEach(keep)
    const ids = items.map(raw => hex(readItem(raw, network).id))
    return { ...made, ids, recipients: gossiped ? await publish(frame(network, 'ops', items)) : 0 }
  },
  announce: async ({ ids }) => ({
    recipients: await publish(frame(network, 'have', ids.map(id => Buffer.from(id, 'hex'))))
  }),
  // Read the whole of the other's store, a page at a time.
  catchUp: async ({ mode }) => {
    let of = Buffer.alloc(0), after = 0, done = false, pages = 0
    const found = []
    while (!done) {
      const [tag, ...fields] = readFrame(await request(frame(network, 'after', of, after, mode)), network)
      if (tag !== 'page') throw new Error(`${tag} is no answer`)
      const [epochThere, next, , isLast, items, ids] = fields
      const before = of.equals(epochThere) ? after : 0
      if (next - before < items.length + ids.length) throw new Error('a page of more than it counts')
      for (const raw of items) keep(raw)
      found.push(...items.map(raw => shown(readItem(raw, network))), ...ids.map(id => ({ id: hex(id) })))
      of = epochThere; after = next; done = isLast; pages++
    }
    return { found, pages }
  },
  fetch: async ({ ids }) => {
    const raw = await request(frame(network, 'fetch', ids.map(id => Buffer.from(id, 'hex'))))
    const [tag, items, absent] = readFrame(raw, network)
    return { tag, items: items.map(one => shown(readItem(one, network))), absent: absent.map(hex) }
  },
  // Things that no honest peer does.
  misbehave: async ({ how, root, slug }) => {
    const elsewhere = networkId('elsewhere')
    const raw = {
      'wrong signature': () => frame(network, 'ops', make({ root, slug, spoil: 'signature' }).items),
      'frame of another network': () => frame(elsewhere, 'ops', make({ root, slug }).items),
      'item of another network': () => frame(network, 'ops', make({ root, slug, of: elsewhere }).items),
      'oversized item': () => frame(network, 'ops', make({ root, slug, spoil: 'size' }).items),
      'oversized frame': () => frame(network, 'ops', [...make({ root, slug }).items, Buffer.alloc(GOSSIP_BYTES_MAX)]),
      'oversized message': () => Buffer.alloc(65 * 1024)
    }[how]()
    return { judged: judge(raw), recipients: await publish(raw) }
  },
  // Begin a request of any length on a stream of its own; return what comes back.
  begin: async ({ length }) => {
    const exchange = new Exchange(await host.dialProtocol(host.getPeers()[0], SYNC))
    const header = Buffer.alloc(4)
    header.writeUInt32BE(length)
    exchange.stream.send(header)
    return exchange.read(1).then(raw => ({ answered: hex(raw) }), error => ({ ended: error.message }))
  },
  ask: async ({ raw }) => {
    const found = await request(Buffer.from(raw, 'hex'))
    return { answered: found && hex(found) }
  }
}

say({ event: 'ready', peer: host.peerId.toString(), addresses: host.getMultiaddrs().map(String) })
for await (const line of createInterface({ input: process.stdin })) {
  const { number, action, ...more } = JSON.parse(line)
  actions[action](more).then(
    done => say({ number, done }),
    error => say({ number, error: `${error.name}: ${error.message}` })
  )
}
process.exit(0)
