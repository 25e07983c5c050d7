-- Claim the head of each due queue of an alert, unless another sender has it.
-- Returns queue, notification, fence and number of the attempt of each that `token` holds now. So a call whose answer
-- was lost can be repeated.
local outbox = KEYS[1]         -- zset: queues by the time of the next try
local queues = KEYS[2]         -- set: the alert's queues
local last_fence = KEYS[3]     -- string: counts the claims
local now = tonumber(ARGV[1])
local milliseconds = ARGV[2]   -- of the lease
local token = ARGV[3]          -- names the caller
local queue_prefix = ARGV[4]   -- list: notifications
local state_prefix = ARGV[5]   -- hash: fence and attempts of the head
local lease_prefix = ARGV[6]   -- string: the token of who sends the head
-- A queue that does not wait was added when it became due. A later time than this was written while a clock was ahead,
-- and counts as due.
local latest = tonumber(ARGV[7])

local claimed = {}
local names = redis.call('SMEMBERS', queues)
table.sort(names)
for _, name in ipairs(names) do
  local state, lease = state_prefix .. name, lease_prefix .. name
  local holder = redis.call('GET', lease)
  -- A lease longer than its full duration was taken before the server's clock was set back.
  if holder and holder ~= token and redis.call('PTTL', lease) > 2 * tonumber(milliseconds) then holder = nil end
  local wait = tonumber(redis.call('HGET', state, 'wait') or '') or 0
  local at = tonumber(redis.call('ZSCORE', outbox, name) or '')
  local head = redis.call('LINDEX', queue_prefix .. name, 0)
  if head and not holder and at and (at <= now or at - wait > latest) then
    redis.call('HSET', state, 'fence', next_number(last_fence))
    add(state, 'attempts', 1)
    redis.call('SET', lease, token, 'PX', milliseconds)
    holder = token
  end
  if head and holder == token then
    local fence, attempts = unpack(redis.call('HMGET', state, 'fence', 'attempts'))
    claimed[#claimed + 1] = {name, head, fence, attempts}
  end
end
return claimed
