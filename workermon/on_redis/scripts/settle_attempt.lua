-- Record the result of a claimed notification, and remove it from its queue or schedule a retry.
-- Returns {1} if the claim's fence is still valid, or was settled with it before (a call whose answer was lost).
-- Otherwise another sender has claimed the queue since, and this attempt may have overtaken a newer one. Then it
-- returns {0}, or {0, notification, fence} if the sender has to send the present state again; that fence is negative.
local outbox = KEYS[1]            -- zset: queues by the time of the next try
local queues = KEYS[2]            -- set: the alert's queues
local queue = KEYS[3]             -- list: notifications
local state = KEYS[4]             -- hash: fence and attempts of the head
local lease = KEYS[5]             -- string: the sender of the head
local attempts = KEYS[6]          -- zset: attempts of the alert by fence
local last = KEYS[7]              -- string: "<id> <notification>", the last one of the alert
local last_fence = KEYS[8]        -- string: counts the claims
local reminders = KEYS[9]         -- zset: queues by the time of the next reminder
local name = ARGV[1]              -- of the queue
local fence = ARGV[2]
local notification_id = ARGV[3]
local outcome = ARGV[4]           -- 'delivered', 'failed', 'given up' or 'skipped'
local attempt = ARGV[5]
local retry_at = ARGV[6]
local lifetime = ARGV[7]          -- seconds
local max_attempts = ARGV[8]     -- to keep for each alert
local remind_at = ARGV[9]         -- '' for no reminder
local wait = ARGV[10]             -- seconds from now to retry_at

local present_fence = redis.call('HGET', state, 'fence') or ''
local holds = present_fence == fence
local number = math.abs(tonumber(fence))
if not holds and redis.call('ZCOUNT', attempts, number, number) > 0 then return {1} end

-- The half distinguishes the attempt under a stale fence from the attempt of that number's holder.
if outcome ~= 'skipped' then
  redis.call('ZADD', attempts, holds and number or number + 0.5, attempt)
  redis.call('ZREMRANGEBYRANK', attempts, 0, -1 - tonumber(max_attempts))
  redis.call('EXPIRE', attempts, lifetime)
end

if holds then
  redis.call('DEL', lease)
  if outcome == 'failed' then
    redis.call('HSET', state, 'fence', '', 'wait', wait)
    redis.call('ZADD', outbox, retry_at, name)
    return {1}
  end
  if remind_at == '' then
    redis.call('ZREM', reminders, name)
  else
    redis.call('ZADD', reminders, remind_at, name)
  end
  redis.call('LPOP', queue)
  redis.call('DEL', state)
  if redis.call('EXISTS', queue) == 1 then
    redis.call('ZADD', outbox, 0, name)
  else
    redis.call('ZREM', outbox, name)
    redis.call('SREM', queues, name)
  end
  return {1}
end

local newest = redis.call('GET', last)
if not newest then return {0} end
local newest_id, newest_notification = string.match(newest, '^(%S+) (.*)$')
if not newest_id then return {0} end
-- A notification that nobody is sending now will be sent later than this attempt, and so arrive last.
local being_sent = present_fence == '' and 0 or 1
if redis.call('LLEN', queue) > being_sent then return {0} end
if outcome == 'delivered' and newest_id ~= notification_id then
  return {0, newest_notification, -next_number(last_fence)}
end
if outcome == 'failed' and (newest_id ~= notification_id or tonumber(fence) < 0) then
  redis.call('RPUSH', queue, newest_notification)
  redis.call('HSET', state, 'wait', wait)
  redis.call('ZADD', outbox, retry_at, name)
  redis.call('SADD', queues, name)
end
return {0}
