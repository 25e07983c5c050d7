-- Record that a canary reached a step, and publish it if a channel is given.
-- `lost:<step>` counts the canaries that reached the step before but not this one, since the last one that did.
local canary = KEYS[1]                   -- hash: step → "<sent_at> <at>"; lost:<step> → count; sent → count
local step = ARGV[1]
local next_step = ARGV[2]                -- '' for none
local sent_at = ARGV[3]                  -- when the canary was sent
local at = ARGV[4]
local longest_break = tonumber(ARGV[5])  -- seconds; earlier losses are forgotten after such a break
-- The last two are '' except for the first step.
local sent = ARGV[6]                     -- how many canaries were sent so far
local channel = ARGV[7]

if sent ~= '' then
  local before = tonumber(string.match(redis.call('HGET', canary, step) or '', '^%S+ (%S+)$') or '')
  if not before or tonumber(at) - before > longest_break then
    for _, field in ipairs(redis.call('HKEYS', canary)) do
      if string.find(field, 'lost:', 1, true) == 1 then redis.call('HDEL', canary, field) end
    end
  end
  redis.call('HSET', canary, 'sent', sent)
end
redis.call('HSET', canary, step, sent_at .. ' ' .. at)
redis.call('HDEL', canary, 'lost:' .. step)
if next_step ~= '' then add(canary, 'lost:' .. next_step, 1) end
if channel ~= '' then redis.call('PUBLISH', channel, sent_at) end
return 1
