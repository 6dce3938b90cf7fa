// Stock Yjs editors (yjs and y-websocket, unchanged), one line of JSON in for each thing to do and
// one out for each change of what an editor shows. Driven by tests/e2e/stock_editors.py.
import { createInterface } from 'node:readline'
import WebSocket from 'ws'
import { WebsocketProvider } from 'y-websocket'
import * as Y from 'yjs'

const editors = new Map()

function tell (name) {
  const { doc, text, provider, root } = editors.get(name)
  const others = [...provider.awareness.getStates()].filter(([client]) => client !== doc.clientID)
  console.log(JSON.stringify({
    editor: name,
    text: doc.getText(root).toString(),
    plain: text.toDelta().every(part => typeof part.insert === 'string' && !part.attributes),
    synced: provider.synced,
    closed: provider.lastClose,
    others: others.map(([, state]) => state)
  }))
}

function open ({ editor, url, room, root }) {
  const doc = new Y.Doc()
  const provider = new WebsocketProvider(url, room, doc, {
    WebSocketPolyfill: WebSocket, disableBc: true, maxBackoffTime: 100
  })
  provider.lastClose = null
  provider.on('connection-close', event => {
    provider.lastClose = event && event.code
    tell(editor)
  })
  provider.on('sync', () => tell(editor))
  provider.awareness.on('change', () => tell(editor))
  doc.on('update', () => tell(editor))
  editors.set(editor, { doc, text: doc.getText(root), provider, root })
}

// A place between two characters, never within a surrogate pair.
function place (text, where) {
  const shown = text.toString()
  const index = Math.floor(where * (shown.length + 1))
  const code = shown.charCodeAt(index)
  return code >= 0xdc00 && code < 0xe000 ? index + 1 : index
}

const actions = {
  open,
  insert: ({ text }, { at, insert }) => text.insert(at, insert),
  remove: ({ text }, { at, length }) => text.delete(at, length),
  format: ({ text }, { at, length, attributes }) => text.format(at, length, attributes),
  embed: ({ text }, { at, value }) => text.insertEmbed(at, value),
  // One keystroke somewhere; `where` is a fraction of the text.
  press: ({ text }, { where, insert }) => text.insert(place(text, where), insert),
  // One backspace on the first of these characters behind a place.
  erase: ({ text }, { where, what }) => {
    const at = text.toString().indexOf(what, place(text, where))
    if (at >= 0) text.delete(at, what.length)
  },
  // Edits that count in UTF-16 code units and may cut a surrogate pair, as careless editors make.
  cut: ({ text }, { where, insert }) => {
    const at = Math.floor(where * text.length)
    if (text.length > 0) text.delete(at, 1)
    if (insert) text.insert(at, insert)
  },
  show: ({ provider }, { state }) => provider.awareness.setLocalStateField('user', state),
  connect: ({ provider }) => provider.connect(),
  disconnect: ({ provider }) => provider.disconnect()
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line)
  if (command.do === 'open') open(command)
  else actions[command.do](editors.get(command.editor), command)
  tell(command.editor)
}
process.exit(0)
