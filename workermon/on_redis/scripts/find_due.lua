-- Return ids of alerts that have a notification to be sent now, and queue the reminders that are due.
local outbox = KEYS[1]           -- zset: queues by the time of the next try
local reminders = KEYS[2]        -- zset: queues by the time of the next reminder
local now = ARGV[1]
local limit = tonumber(ARGV[2])  -- alert ids at most
local lease_prefix = ARGV[3]     -- string: who sends the head of a queue
local queue_prefix = ARGV[4]     -- list: notifications of one alert for one channel
local last_prefix = ARGV[5]      -- string: "<id> <notification>", the last one of an alert
local queues_prefix = ARGV[6]    -- set: an alert's queues
-- A later time than this was written while a clock was ahead, so it counts as due.
local horizon = ARGV[7]

local function alert_of(queue) return string.match(queue, '^[^:]*:(.*)$') end

for _, queue in ipairs(redis.call('ZRANGEBYSCORE', reminders, '-inf', now, 'LIMIT', 0, 500)) do
  redis.call('ZREM', reminders, queue)
  local last = redis.call('GET', last_prefix .. alert_of(queue))
  local is_empty = redis.call('EXISTS', queue_prefix .. queue) == 0
  if last and is_empty and string.find(last, '"status":"firing"', 1, true) then
    local fields = string.match(last, '^%S+ {(.*)$')
    redis.call('RPUSH', queue_prefix .. queue, '{"reminder":true,' .. string.gsub(fields, ',"reminder":false', '', 1))
    redis.call('ZADD', outbox, now, queue)
    redis.call('SADD', queues_prefix .. alert_of(queue), queue)
  end
end

local due, seen = {}, {}
for _, range in ipairs({{'-inf', now}, {'(' .. horizon, '+inf'}}) do
  local start = 0
  while #due < limit do
    local queues = redis.call('ZRANGEBYSCORE', outbox, range[1], range[2], 'LIMIT', start, 200)
    if #queues == 0 then break end
    start = start + #queues
    for _, queue in ipairs(queues) do
      local alert = alert_of(queue)
      if not seen[alert] and #due < limit and redis.call('EXISTS', lease_prefix .. queue) == 0 then
        seen[alert] = true
        due[#due + 1] = alert
      end
    end
  end
end
return due
