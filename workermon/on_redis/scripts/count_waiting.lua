-- Count the work for a sweep. Records dated later than possible count too: a clock was ahead when they were written.
local configuration = KEYS[1]     -- hash: its revision
local workers = KEYS[2]           -- zset: the fleet's ids
local silences = KEYS[3]          -- hash: silences by id
local failing = KEYS[4]           -- hash: channels that accept no messages
local pending = KEYS[5]           -- zset: subjects by the time of the write
local outbox = KEYS[6]            -- zset: queues by the time of the next try
local reminders = KEYS[7]         -- zset: queues by the time of the next reminder
local escalations = KEYS[8]       -- zset: alerts by the time of their next escalation
local now = ARGV[1]
local written_by = ARGV[2]        -- samples written until then and still pending were not announced
local latest = ARGV[3]
local latest_escalation = ARGV[4]

local function count(key, due, after)
  return redis.call('ZCOUNT', key, '-inf', due) + redis.call('ZCOUNT', key, '(' .. after, '+inf')
end

return {
  tonumber(redis.call('HGET', configuration, 'revision') or '0') or -1,
  redis.call('ZCARD', workers),
  redis.call('HLEN', silences),
  redis.call('HLEN', failing),
  count(pending, written_by, latest),
  count(outbox, now, latest) + redis.call('ZCOUNT', reminders, '-inf', now),
  count(escalations, now, latest_escalation)
}
