-- Add to a number of a hash. What is no number any more is counted anew.
local function add(key, field, number)
  local reply = redis.pcall('HINCRBY', key, field, number)
  if type(reply) == 'table' and reply.err then redis.call('HSET', key, field, number) end
end

