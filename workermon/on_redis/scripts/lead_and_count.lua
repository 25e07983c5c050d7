-- Extend the leader's lease, record that it works, and count the work for a sweep. Impossibly late times count too: a
-- clock was ahead when they were written. Returns nothing if another owner holds the lease.
local lease = KEYS[1]             -- string: the owner
local liveness = KEYS[2]          -- hash: part → time
local configuration = KEYS[3]     -- hash: its revision
local workers = KEYS[4]           -- zset: the fleet's ids
local silences = KEYS[5]          -- hash: silences by id
local failing = KEYS[6]           -- hash: channels that accept nothing
local pending = KEYS[7]           -- zset: subjects by the time of the write
local outbox = KEYS[8]            -- zset: queues by the time of the next try
local reminders = KEYS[9]         -- zset: queues by the time of the next reminder
local escalations = KEYS[10]      -- zset: alerts by the time of their next escalation
local owner = ARGV[1]
local milliseconds = ARGV[2]
local works = ARGV[3] == '1'      -- the last sweep was done
local longest_break = tonumber(ARGV[4]) -- seconds
local now = ARGV[5]
local written_by = ARGV[6]        -- a sample of that time was not announced if it is still pending
local latest = ARGV[7]
local latest_escalation = ARGV[8]

local function count(key, due, after)
  return redis.call('ZCOUNT', key, '-inf', due) + redis.call('ZCOUNT', key, '(' .. after, '+inf')
end

if not hold(lease, owner, milliseconds) then return {} end
if works then mark_listener(liveness, now, longest_break, false) end
return {
  tonumber(redis.call('HGET', configuration, 'revision') or '0') or -1,
  redis.call('ZCARD', workers),
  redis.call('HLEN', silences),
  redis.call('HLEN', failing),
  count(pending, written_by, latest),
  count(outbox, now, latest) + redis.call('ZCOUNT', reminders, '-inf', now),
  count(escalations, now, latest_escalation)
}
