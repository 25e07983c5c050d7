-- Return the ids of alerts with a notification that is due, and queue the reminders that are due.
local outbox = KEYS[1]           -- zset: queues by the time of the next try
local reminders = KEYS[2]        -- zset: queues by the time of the next reminder
local now = ARGV[1]
local limit = tonumber(ARGV[2])  -- alert ids at most
local lease_prefix = ARGV[3]     -- string: the sender of a queue's head
local queue_prefix = ARGV[4]     -- list: notifications of one alert for one channel
local last_prefix = ARGV[5]      -- string: "<id> <notification>", the last one of an alert
local queues_prefix = ARGV[6]    -- set: an alert's queues
local state_prefix = ARGV[7]     -- hash: fence and attempts of the head, and how long it waits
-- A queue that does not wait was added when it became due. A later time than this was written while a clock was ahead,
-- and counts as due.
local latest = tonumber(ARGV[8])
local longest_lease = tonumber(ARGV[9]) -- milliseconds

-- A lease longer than any full duration was taken before the server's clock was set back.
local function is_leased(queue)
  local remaining = redis.call('PTTL', lease_prefix .. queue)
  return remaining > 0 and remaining <= longest_lease
end

local function alert_of(queue) return string.match(queue, '^[^:]*:(.*)$') end

local reminded = redis.call('ZRANGEBYSCORE', reminders, '-inf', now, 'LIMIT', 0, 500)
for _, queue in ipairs(reminded) do
  redis.call('ZREM', reminders, queue)
  local last = redis.call('GET', last_prefix .. (alert_of(queue) or ''))
  local is_empty = redis.call('EXISTS', queue_prefix .. queue) == 0
  if last and is_empty and string.find(last, '"status":"firing"', 1, true) then
    local fields = string.gsub(string.match(last, '^%S+ {(.*)$') or '', ',"reminder":false', '', 1)
    redis.call('RPUSH', queue_prefix .. queue, '{"reminder":true,' .. fields)
    redis.call('ZADD', outbox, now, queue)
    redis.call('SADD', queues_prefix .. alert_of(queue), queue)
  end
end

local due, seen = {}, {}
local function is_ahead(queue, at)
  return tonumber(at) - (tonumber(redis.call('HGET', state_prefix .. queue, 'wait') or '') or 0) > latest
end

for _, range in ipairs({{'-inf', now}, {'(' .. latest, '+inf'}}) do
  local start, may_wait = 0, range[1] ~= '-inf'
  while #due < limit do
    local queues = redis.call('ZRANGEBYSCORE', outbox, range[1], range[2], 'WITHSCORES', 'LIMIT', start, 200)
    if #queues == 0 then break end
    start = start + #queues / 2
    for i = 1, #queues, 2 do
      local queue, at = queues[i], queues[i + 1]
      local alert = alert_of(queue)
      if alert and not seen[alert] and #due < limit and not is_leased(queue)
        and (not may_wait or is_ahead(queue, at)) then
        seen[alert] = true
        due[#due + 1] = alert
      end
    end
  end
end
return due
