-- Return the next number of a counter. If it holds no number any more, continue above all fences in use.
local function next_number(counter)
  local number = redis.pcall('INCR', counter)
  if type(number) ~= 'table' then return number end
  redis.call('SET', counter, redis.call('TIME')[1])
  return redis.call('INCR', counter)
end

-- Add to a number of a hash. A value that is not a number counts as 0.
local function add(key, field, number)
  local reply = redis.pcall('HINCRBY', key, field, number)
  if type(reply) == 'table' and reply.err then redis.call('HSET', key, field, number) end
end

