// Hyperbee on a Corestore, which keeps it in RocksDB; replicated over TCP instead of Hyperswarm's DHT.
// node hyperbee.mjs FOLDER RECORDS writer|reader [NAME]; driven by bench/contestants.py
import { once } from 'node:events'
import net from 'node:net'
import Corestore from 'corestore'
import Hyperbee from 'hyperbee'
import { assertAll, now, records, say, serve, timed } from './lines.mjs'

const [folder, path, role, name] = process.argv.slice(2)
const all = records(path)
const store = new Corestore(folder)
const core = store.get(role === 'writer' ? { name: 'bench' } : { key: Buffer.from(name, 'hex') })
const bee = new Hyperbee(core, { keyEncoding: 'utf-8', valueEncoding: 'json' })
await bee.ready()
const server = net.createServer(socket => replicate(socket, false))
server.listen(0, '127.0.0.1')
await once(server, 'listening')

function replicate (socket, isInitiator) {
  socket.setNoDelay(true)
  const stream = store.replicate(isInitiator)
  for (const one of [socket, stream]) one.on('error', () => socket.destroy()) // the other side ended
  socket.pipe(stream).pipe(socket)
}

async function put ({ start, count, batch }) {
  return timed(all.slice(start, start + count), batch, async some => {
    if (some.length === 1) return bee.put(some[0].slug, some[0].fields)
    const writes = bee.batch()
    for (const { slug, fields } of some) await writes.put(slug, fields)
    await writes.flush()
  })
}

// Connect, and read back these records; the writer has no others after them.
async function read ({ port, start, count }) {
  const wanted = new Set(all.slice(start, start + count).map(one => one.slug))
  const length = start + count + 1 // a block for each put, after a header
  const started = now()
  replicate(net.connect(port, '127.0.0.1'), true)
  while (core.length < length) await once(core, 'append')
  await core.download({ start: 0, end: core.length }).done()
  const held = now()
  if (start === 0) {
    for await (const { key } of bee.createReadStream()) wanted.delete(key)
  } else {
    for (const key of [...wanted]) if (await bee.get(key)) wanted.delete(key)
  }
  assertAll(wanted)
  return { held_s: held - started, readable_s: now() - started }
}

// A new length is announced before its blocks are there; a record is seen when it can be read.
async function watch () {
  let next = core.length
  let turn = Promise.resolve()
  core.on('append', () => {
    turn = turn.then(async () => {
      for (; next < core.length; next++) {
        const { key } = await bee.getBySeq(next)
        say({ seen: key, at_s: now() })
      }
    })
  })
}

async function end () {
  server.close()
  await store.close()
}

say({ ready: { port: server.address().port, name: core.key.toString('hex') } })
await serve({ put, read, watch, end })
