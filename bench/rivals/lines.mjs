// What both rivals share: commands of bench/contestants.py, a line of JSON each, and its answer.
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'

export const say = what => process.stdout.write(JSON.stringify(what) + '\n')

// Seconds on the monotonic clock, which on Linux is one for all processes.
export const now = () => Number(process.hrtime.bigint()) / 1e9

// Records that are written and looked for: [{ slug, fields }]
export const records = path => readFileSync(path, 'utf8').trimEnd().split('\n').map(line => JSON.parse(line))

// Time `put` over batches of some records.
export async function timed (some, batch, put) {
  const started = now()
  for (let first = 0; first < some.length; first += batch) await put(some.slice(first, first + batch))
  return { started_s: started, seconds: now() - started }
}

// Fail unless everything that was looked for was found.
export function assertAll (wanted) {
  if (wanted.size) throw new Error(`${wanted.size} records are missing, ${[...wanted][0]} among them`)
}

// Answer commands in order until the input ends.
export async function serve (actions) {
  for await (const line of createInterface({ input: process.stdin })) {
    const { action, ...more } = JSON.parse(line)
    try {
      say({ done: await actions[action](more) ?? {} })
    } catch (error) {
      say({ error: `${error.name}: ${error.message}` })
    }
  }
  await actions.end()
  process.exit(0)
}
