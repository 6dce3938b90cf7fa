// OrbitDB: a `documents` database on Helia with Level's block store, as its README sets one up.
// node orbitdb.mjs FOLDER RECORDS writer|reader [NAME]; driven by bench/contestants.py
import { EventEmitter, once } from 'node:events'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createOrbitDB } from '@orbitdb/core'
import { LevelBlockstore } from 'blockstore-level'
import { bitswap } from '@helia/block-brokers'
import { createHelia } from 'helia'
import { createLibp2p } from 'libp2p'
import { assertAll, now, records, say, serve, timed } from './lines.mjs'

EventEmitter.defaultMaxListeners = 1000 // Level's, one for each read under way; more than 10 only warn
const [folder, path, role, name] = process.argv.slice(2)
const all = records(path)
const libp2p = await createLibp2p({
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: { identify: identify(), pubsub: gossipsub({ allowPublishToZeroTopicPeers: true }) }
})
const blockstore = new LevelBlockstore(`${folder}/blocks`)
// Blocks come from peers only: no gateways on the web, which Helia would also ask.
const ipfs = await createHelia({ blockstore, libp2p, blockBrokers: [bitswap()], routers: [] })
const orbitdb = await createOrbitDB({ ipfs, id: 'bench', directory: `${folder}/orbitdb` })
const type = 'documents'
// Opened by its name the writer's database is the same one each time: its address is a hash.
let db = role === 'writer' ? await orbitdb.open('bench', { type }) : null

async function opened (peer, address, port) {
  await libp2p.dial(multiaddr(`/ip4/127.0.0.1/tcp/${port}/p2p/${peer}`))
  return orbitdb.open(address, { type, sync: false }) // so that no event comes before its listener
}

async function put ({ start, count, batch }) {
  const docs = all.slice(start, start + count).map(({ slug, fields }) => ({ _id: slug, ...fields }))
  return timed(docs, batch, some => Promise.all(some.map(doc => db.put(doc))))
}

// Connect, and read back these records, which are the newest ones.
async function read ({ port, start, count }) {
  const wanted = new Set(all.slice(start, start + count).map(one => one.slug))
  const started = now()
  db = await opened(...name.split(' '), port)
  const joined = once(db.events, 'join') // the writer's heads are, with all they stand on
  await db.sync.start()
  await joined
  const held = now()
  for await (const { key } of db.iterator({ amount: count })) wanted.delete(key)
  assertAll(wanted)
  return { held_s: held - started, readable_s: now() - started }
}

function watch () {
  db.events.on('update', ({ payload }) => say({ seen: payload.key, at_s: now() }))
}

async function end () {
  await db?.close()
  await orbitdb.stop()
  await ipfs.stop()
}

const port = Number(String(libp2p.getMultiaddrs()[0]).split('/')[4])
say({ ready: { port, name: `${libp2p.peerId} ${db?.address ?? ''}` } })
await serve({ put, read, watch, end })
