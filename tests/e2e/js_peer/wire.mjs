// What docs/wire.md says of bytes, and nothing else: canonical msgpack, items, frames. Node's own
// crypto is all it needs. Whatever does not fit throws.
import { createHash, createPrivateKey, createPublicKey, sign, verify } from 'node:crypto'

const utf8 = new TextDecoder('utf-8', { fatal: true })
export const ITEM_BYTES_MAX = 69888
export const GOSSIP_BYTES_MAX = 60 * 1024
export const KIND = { account: 1, operation: 2, receipt: 3 }

// Canonical msgpack: bool, integer, text, bytes (Uint8Array), array, null

export function encode (value) {
  const parts = []
  put(value, parts)
  return Buffer.concat(parts)
}

function put (value, parts) {
  if (value === null) parts.push(Buffer.of(0xc0))
  else if (value === false) parts.push(Buffer.of(0xc2))
  else if (value === true) parts.push(Buffer.of(0xc3))
  else if (typeof value === 'number') parts.push(integer(value))
  else if (typeof value === 'string') {
    const raw = Buffer.from(value)
    parts.push(head(raw.length, [0xa0, 32], [0xd9, 0xda, 0xdb]), raw)
  } else if (value instanceof Uint8Array) {
    parts.push(head(value.length, null, [0xc4, 0xc5, 0xc6]), value)
  } else if (Array.isArray(value)) {
    parts.push(head(value.length, [0x90, 16], [null, 0xdc, 0xdd]))
    for (const one of value) put(one, parts)
  } else throw new Error(`no bytes stand for ${value}`)
}

function head (length, short, [one, two, four]) {
  if (short && length < short[1]) return Buffer.of(short[0] + length)
  if (one !== null && length < 0x100) return Buffer.of(one, length)
  return length < 0x10000 ? sized(two, 2, length) : sized(four, 4, length)
}

function sized (type, width, value) {
  const raw = Buffer.alloc(1 + width)
  raw[0] = type
  if (width === 8) raw.writeBigUInt64BE(BigInt(value), 1)
  else raw.writeUIntBE(value, 1, width)
  return raw
}

function integer (value) {
  // Nothing this peer sends is negative, or beyond what a double counts exactly.
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`${value} is not sent from here`)
  if (value < 0x80) return Buffer.of(value)
  if (value < 0x100) return Buffer.of(0xcc, value)
  if (value < 0x10000) return sized(0xcd, 2, value)
  return value < 0x100000000 ? sized(0xce, 4, value) : sized(0xcf, 8, value)
}

export function decode (bytes) {
  const raw = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  let at = 0
  const take = count => {
    if (at + count > raw.length) throw new Error('the bytes end too early')
    at += count
    return raw.subarray(at - count, at)
  }
  const number = width => width === 8 ? Number(take(8).readBigUInt64BE()) : take(width).readUIntBE(0, width)
  const text = length => utf8.decode(take(length))
  const array = (length, depth) => {
    if (depth > 16 || length > raw.length) throw new Error('too deep or too long an array')
    return Array.from({ length }, () => next(depth + 1))
  }
  const next = depth => {
    const type = number(1)
    if (type < 0x80) return type
    if (type >= 0xa0 && type < 0xc0) return text(type - 0xa0)
    if (type >= 0x90 && type < 0xa0) return array(type - 0x90, depth)
    switch (type) {
      case 0xc0: return null
      case 0xc2: return false
      case 0xc3: return true
      case 0xc4: case 0xc5: case 0xc6: return take(number(1 << (type - 0xc4)))
      case 0xcc: case 0xcd: case 0xce: case 0xcf: return number(1 << (type - 0xcc))
      case 0xd9: case 0xda: case 0xdb: return text(number(1 << (type - 0xd9)))
      case 0xdc: case 0xdd: return array(number(2 << (type - 0xdc)), depth)
      default: throw new Error(`type ${type} is not of the wire`)
    }
  }
  const value = next(0)
  if (!Array.isArray(value) || !encode(value).equals(raw)) throw new Error('not a canonical array')
  return value
}

// Signatures and ids

export const sha3 = raw => createHash('sha3-256').update(raw).digest()
export const networkId = name => sha3(encode(['hansa/network', 0, name]))
const signed = content => Buffer.concat([Buffer.from('hansa-signature-v0:'), sha3(content)])

// Node's crypto takes keys as DER only; these are the fixed heads of RFC 8410.
const SECRET_HEAD = Buffer.from('302e020100300506032b657004220420', 'hex')
const PUBLIC_HEAD = Buffer.from('302a300506032b6570032100', 'hex')

export function keyOf (seed) {
  const secret = createPrivateKey({ key: Buffer.concat([SECRET_HEAD, seed]), format: 'der', type: 'pkcs8' })
  const half = createPublicKey(secret).export({ format: 'der', type: 'spki' }).subarray(-32)
  return { public: half, sign: content => sign(null, signed(content), secret) }
}

function holds (content, signature, key) {
  const half = createPublicKey({ key: Buffer.concat([PUBLIC_HEAD, key]), format: 'der', type: 'spki' })
  return verify(null, signed(content), half, signature)
}

// Items

export function packItem (kind, content, key, body = Buffer.alloc(0)) {
  return encode([0, kind, content, key.sign(content), body])
}

export function genesis (network, root, recovery) {
  const content = encode(['hansa/account', 0, network, 1, root.public, recovery.public, Buffer.alloc(0)])
  return packItem(KIND.account, content, root)
}

// The first put of a model by its account's root key.
export function firstPut (network, { account, root, slug, body, timestamp }) {
  const record = sha3(encode(['hansa/record', 0, network, 1, account, slug]))
  const content = encode([
    'hansa/operation', 0, network, 1, record, slug, 1, account, root.public,
    [account], Buffer.alloc(0), [], 1, sha3(body), body.length, timestamp
  ])
  return { record, raw: packItem(KIND.operation, content, root, body) }
}

// A model of which only the name is stated.
export function smallestModel (name) {
  return encode([
    0, 1, name, '0.1.0', '', 'MIT', [], [], 0, 0, '', null, 0, [], [], null, [], ['general'], [], [],
    'active', null, null, 'LLM', 'PyTorch', 0, null, null, null, null,
    [1, 2, 1024, 4096, 10, 20, false, null, null, null]
  ])
}

// What can be judged of an item by its own bytes: shape, network, hashes, signature.
export function readItem (raw, network) {
  if (raw.length > ITEM_BYTES_MAX) throw new Error(`an item of ${raw.length} bytes`)
  const [version, kind, content, signature, body, ...more] = decode(raw)
  if (version !== 0 || more.length || !(body instanceof Uint8Array)) throw new Error('not an item')
  const fields = decode(content)
  if (!network.equals(fields[2])) throw new Error('an item of another network')
  const item = { kind, id: sha3(content), raw, domain: fields[0] }
  if (kind === KIND.account) {
    const signer = fields[3] === 1 ? fields[4] : fields[6]
    if (fields[0] !== 'hansa/account' || !holds(content, signature, signer)) throw new Error('badly signed')
  } else if (kind === KIND.operation) {
    const [hash, length] = fields.slice(13, 15)
    if (!sha3(body).equals(hash) || body.length !== length) throw new Error('another body')
    if (fields[0] !== 'hansa/operation' || !holds(content, signature, fields[8])) throw new Error('badly signed')
    Object.assign(item, { record: fields[4], slug: fields[5], account: fields[7], body })
  } // A receipt's keys are those of two accounts: not to be judged by its bytes.
  return item
}

// Frames: [tag, 0, network, ...]

export const frame = (network, tag, ...fields) => encode([tag, 0, network, ...fields])

export function readFrame (raw, network) {
  const [tag, version, of, ...fields] = decode(raw)
  if (version !== 0 || !network.equals(of)) throw new Error('a frame of another version or network')
  return [tag, ...fields]
}

export function readGossip (raw, network) {
  if (raw.length > GOSSIP_BYTES_MAX) throw new Error(`a gossip frame of ${raw.length} bytes`)
  const [tag, list] = readFrame(raw, network)
  if (tag === 'ops') return { tag, items: list.map(one => readItem(one, network)) }
  if (tag === 'have') return { tag, ids: list }
  throw new Error(`a gossip frame ${tag}`)
}
